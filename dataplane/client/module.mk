# libmillrace and its tests. CLIENT_SRCS are also linked by perf/ and by tests that speak the protocol.
CLIENT_SRCS := $(addprefix dataplane/client/,channel.c session_json.c https.c enrol.c pending.c prove.c client.c)
CLIENT_BASE_SRCS := $(addprefix dataplane/base/,clock.c error.c hkdf.c) $(AEAD_SRCS)
CLIENT_LIBS := -lssl -ljansson $(BASE_LIBS)

LIBMILLRACE := $(BUILD)/lib/libmillrace.a
EXTRA += $(LIBMILLRACE)
$(LIBMILLRACE): $(patsubst %.c,$(BUILD)/obj/%.o,$(CLIENT_SRCS) $(CLIENT_BASE_SRCS))
	@mkdir -p $(@D)
	$(if $(V),,@printf '  %-7s %s\n' AR '$@';)rm -f $@ && ar rcs $@ $^

PROGRAMS += millrace-example
millrace-example_SRCS := dataplane/client/example.c $(CLIENT_SRCS) $(CLIENT_BASE_SRCS)
millrace-example_LIBS := $(CLIENT_LIBS)

TESTS += test_histogram test_channel test_session_json test_client
test_histogram_SRCS := tests/unit/test_histogram.c dataplane/base/histogram.c
test_histogram_LIBS := -lcmocka
test_channel_SRCS := tests/unit/test_channel.c dataplane/client/channel.c $(CLIENT_BASE_SRCS)
test_channel_LIBS := -lcmocka $(BASE_LIBS)
test_session_json_SRCS := tests/unit/test_session_json.c $(addprefix dataplane/client/,session_json.c \
	https.c) dataplane/base/error.c
test_session_json_LIBS := -lcmocka -lssl -lcrypto -ljansson
test_client_SRCS := tests/unit/test_client.c tests/unit/t_control.c $(CLIENT_SRCS) $(CLIENT_BASE_SRCS)
test_client_LIBS := -lcmocka $(CLIENT_LIBS)

FUZZERS += fuzz_session_json
fuzz_session_json_SRCS := tests/fuzz/fuzz_session_json.c $(addprefix dataplane/client/,\
	session_json.c https.c) dataplane/base/error.c
fuzz_session_json_LIBS := -ljansson -lssl -lcrypto
