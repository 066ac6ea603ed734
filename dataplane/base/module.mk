VAES_SRCS := $(addprefix dataplane/base/,aead_vaes.c aead_vaes512.c aead_vaes_key.c)
AEAD_SRCS := $(addprefix dataplane/base/,aead.c aead_ipsec.c) $(VAES_SRCS)
BASE_SRCS := $(addprefix dataplane/base/,error.c log.c clock.c hkdf.c fd.c file_replace.c \
	histogram.c npy.c pool.c) $(AEAD_SRCS) $(if $(FAILPOINTS),dataplane/base/failpoint.c)
BASE_LIBS := -lIPSec_MB -lcrypto
CFLAGS_dataplane/base/aead_vaes.c := -maes -mpclmul -mavx2 -mvaes -mvpclmulqdq
CFLAGS_dataplane/base/aead_vaes512.c := $(CFLAGS_dataplane/base/aead_vaes.c) -mavx512f -mavx512bw -mavx512dq -mavx512vl $(ZMM_SANFLAGS)
CFLAGS_dataplane/base/aead_vaes_key.c := -maes -mpclmul -mssse3
