# The kill matrix. Its programs exist only in the build with failpoints (make FAILPOINTS=1), which the script
# makes for itself and `make tests-built` beforehand.
TEST_SCRIPTS += tests/kill/test_kills.sh

ifneq ($(FAILPOINTS),)
TESTS += kills
kills_SRCS = tests/kill/kills.c tests/kill/client.c tests/kill/victim.c control/sessions_table.c \
	ebpf/limit_table.c $(addprefix dataplane/,service.c commands.c link.c config_check.c) \
	$(RIG_SRCS)
kills_LIBS = -lcmocka $(WORKER_LIBS)
else
tests-built: failpoints-built
failpoints-built:
	$(Q)$(MAKE) $(JOBS) FAILPOINTS=1 SAN=$(SAN) $(BUILD)/failpoints/tests/kills $(BUILD)/failpoints/bin/millrace-dataplane
.PHONY: failpoints-built
endif
