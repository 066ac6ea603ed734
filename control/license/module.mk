PROGRAMS += millrace-license
millrace-license_SRCS = control/license/main.c control/license_file.c \
	$(addprefix dataplane/base/,error.c clock.c file_replace.c)
millrace-license_LIBS = -ljansson -lcrypto
