# control: the management process. Everything in control/*.c is one program; loader/, cli/ and
# dashboard/ have module.mk files of their own.
CONTROL_SRCS = $(wildcard control/*.c)
CONTROL_LIBS = -levent_openssl -levent_extra -levent_core -lssl -lcrypto -lsqlite3 -ljansson -lcyaml \
	-lyaml -lseccomp -lbpf

PROGRAMS += millrace-control
millrace-control_SRCS = $(CONTROL_SRCS) $(BASE_SRCS) $(EBPF_SRCS)
millrace-control_LIBS = $(CONTROL_LIBS) $(EBPF_LIBS) $(BASE_LIBS)

CONFIG_SRCS = $(addprefix control/,config.c config_doc.c config_check.c config_options.c config_out.c ip_text.c paths.c)

TESTS += test_config
test_config_SRCS = tests/ctl/test_config.c $(CONFIG_SRCS) $(BASE_SRCS)
test_config_LIBS = -lcyaml -lyaml -ljansson $(BASE_LIBS) -lcmocka

FUZZERS += fuzz_config
fuzz_config_SRCS = tests/fuzz/fuzz_config.c $(CONFIG_SRCS) dataplane/base/error.c dataplane/base/log.c dataplane/base/clock.c
fuzz_config_LIBS = -lcyaml -lyaml -ljansson

TESTS += test_subscribers
test_subscribers_SRCS = tests/ctl/test_subscribers.c $(addprefix control/,subscribers.c plans.c quota.c usage.c \
	api_key.c store.c paths.c) ebpf/limit_table.c $(BASE_SRCS)
test_subscribers_LIBS = -levent_core -lsqlite3 $(BASE_LIBS) -lcmocka

TESTS += test_dp_link
test_dp_link_SRCS = tests/ctl/test_dp_link.c $(addprefix control/,dp_link.c dp_stats.c dp_commands.c gateway.c) $(BASE_SRCS)
test_dp_link_LIBS = -levent_core $(BASE_LIBS) -lcmocka
