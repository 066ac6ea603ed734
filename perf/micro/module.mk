# Micro benchmarks of the shared arithmetic; those of other parts are in perf/module.mk.
MICRO += bench_limiter
bench_limiter_SRCS = perf/micro/bench_limiter.c ebpf/limit_table.c dataplane/base/fd.c dataplane/base/error.c

MICRO += bench_store
bench_store_SRCS = perf/micro/bench_store.c dataplane/reply_store.c dataplane/text_hash.c \
	dataplane/base/pool.c
bench_store_LIBS = -lIPSec_MB

MICRO += bench_shield
bench_shield_SRCS = perf/micro/bench_shield.c dataplane/admission.c tests/ebpf/sandbox.c $(FIXTURE_SRCS) \
	$(EBPF_SRCS) $(BASE_SRCS)
bench_shield_LIBS = $(EBPF_LIBS) $(BASE_LIBS)

MICRO += bench_cache
bench_cache_SRCS = perf/micro/bench_cache.c dataplane/cache.c dataplane/text_hash.c $(RUN_SRCS) $(BASE_SRCS)
bench_cache_LIBS = $(RUN_LIBS) $(BASE_LIBS)

MICRO += bench_worker
bench_worker_SRCS = perf/micro/bench_worker.c $(RIG_SRCS)
bench_worker_LIBS = -lcmocka $(WORKER_LIBS)

MICRO += bench_machine
bench_machine_SRCS = perf/micro/bench_machine.c dataplane/base/clock.c
