PROGRAMS += millrace
millrace_SRCS = $(addprefix control/cli/,client.c commands.c doctor.c main.c print.c shell.c top.c views.c) \
	dataplane/base/error.c
millrace_LIBS = -ledit -ljansson
