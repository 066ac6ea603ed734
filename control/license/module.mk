PROGRAMS += millrace-license
millrace-license_SRCS = control/license/main.c control/license_file.c control/file_replace.c \
	dataplane/base/error.c dataplane/base/clock.c
millrace-license_LIBS = -ljansson -lcrypto
