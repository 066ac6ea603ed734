# Unit tests of dataplane/base and of the shared arithmetic in dataplane/abi.
TESTS += test_limits test_shared_rings test_wire_keys test_fd

test_limits_SRCS = tests/unit/test_limits.c ebpf/limit_table.c dataplane/base/fd.c dataplane/base/error.c
test_limits_LIBS = -lcmocka

test_shared_rings_SRCS = tests/unit/test_shared_rings.c ebpf/limit_table.c dataplane/base/fd.c \
	dataplane/base/error.c
test_shared_rings_LIBS = -lcmocka

# Two threads on the rings between workers and engines; for SAN=thread.
TESTS += test_worker_rings
test_worker_rings_SRCS = tests/unit/test_worker_rings.c dataplane/handover.c dataplane/replay.c
test_worker_rings_LIBS = -lcmocka

test_wire_keys_SRCS = tests/unit/test_wire_keys.c dataplane/base/hkdf.c
test_wire_keys_LIBS = -lcmocka -lcrypto

test_fd_SRCS = tests/unit/test_fd.c dataplane/base/fd.c dataplane/base/error.c
test_fd_LIBS = -lcmocka

TESTS += test_fair test_cost
test_fair_SRCS = tests/unit/test_fair.c dataplane/fair.c
test_fair_LIBS = -lcmocka
test_cost_SRCS = tests/unit/test_cost.c dataplane/cost.c
test_cost_LIBS = -lcmocka

TESTS += test_aead
test_aead_SRCS = tests/unit/test_aead.c $(AEAD_SRCS)
test_aead_LIBS = -lcmocka -lIPSec_MB -lcrypto
TESTS += test_doze
test_doze_SRCS = tests/unit/test_doze.c dataplane/doze.c dataplane/base/fd.c dataplane/base/error.c
test_doze_LIBS = -lcmocka
TESTS += test_cache
test_cache_SRCS = tests/unit/test_cache.c dataplane/cache.c dataplane/text_hash.c dataplane/base/pool.c
test_cache_LIBS = -lcmocka -lIPSec_MB

TESTS += test_file_replace
test_file_replace_SRCS = tests/unit/test_file_replace.c dataplane/base/file_replace.c dataplane/base/error.c
test_file_replace_LIBS = -lcmocka
