BASE_SRCS := $(addprefix dataplane/base/,error.c log.c clock.c aead.c hkdf.c fd.c histogram.c pool.c)
BASE_LIBS := -lIPSec_MB -lcrypto
