# Micro benchmarks of the shared arithmetic; those of other parts are in perf/module.mk.
MICRO += bench_limiter
bench_limiter_SRCS = perf/micro/bench_limiter.c ebpf/limit_table.c dataplane/base/fd.c dataplane/base/error.c
