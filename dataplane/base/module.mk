AEAD_SRCS := $(addprefix dataplane/base/,aead.c aead_ipsec.c aead_vaes.c)
BASE_SRCS := $(addprefix dataplane/base/,error.c log.c clock.c hkdf.c fd.c file_replace.c \
	histogram.c npy.c pool.c) $(AEAD_SRCS) $(if $(FAILPOINTS),dataplane/base/failpoint.c)
BASE_LIBS := -lIPSec_MB -lcrypto
CFLAGS_dataplane/base/aead_vaes.c := -maes -mpclmul -mavx2 -mvaes -mvpclmulqdq
