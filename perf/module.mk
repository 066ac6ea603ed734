# millrace-bench, micro benchmarks and measuring peers.
DPDK_CFLAGS := $(subst -I/,-isystem /,$(shell pkg-config --cflags libdpdk 2>/dev/null))

NPY_SRCS := $(addprefix dataplane/base/,file_replace.c npy.c)
BENCH_SRCS := $(addprefix perf/loadgen/,arrivals.c enrolment.c flood.c main.c options.c prove.c report.c run.c sessions.c \
	transport_dpdk.c transport_udp.c workload.c)
CFLAGS_perf/loadgen/transport_dpdk.c := $(DPDK_CFLAGS)

PROGRAMS += millrace-bench
millrace-bench_SRCS = $(BENCH_SRCS) $(NPY_SRCS) dataplane/base/histogram.c $(filter-out %/client.c %/pending.c,\
	$(CLIENT_SRCS)) $(CLIENT_BASE_SRCS)
millrace-bench_LIBS = $(CLIENT_LIBS) -lrte_ethdev -lrte_eal -lrte_mbuf -lrte_mempool -lrte_net

MICRO += bench_aead
bench_aead_SRCS := perf/micro/bench_aead.c $(AEAD_SRCS) dataplane/base/clock.c
bench_aead_LIBS := $(BASE_LIBS)

# Not a benchmark itself: perf/bench.sh starts it as the other server of a comparison.
millrace-peer-udp_SRCS = perf/peers/kernel_udp.c dataplane/client/channel.c $(CLIENT_BASE_SRCS) $(RUN_SRCS)
millrace-peer-udp_LIBS = $(RUN_LIBS) $(BASE_LIBS)
MICRO += millrace-peer-udp

MICRO += bench_load
bench_load_SRCS = perf/micro/bench_load.c tests/ctl/t_artifact.c $(BASE_SRCS)
bench_load_LIBS = $(BASE_LIBS)

TESTS += test_loadgen
test_loadgen_SRCS = tests/unit/test_loadgen.c $(addprefix perf/loadgen/,arrivals.c enrolment.c flood.c run.c sessions.c workload.c) \
	$(NPY_SRCS) dataplane/base/histogram.c $(filter-out %/client.c %/pending.c,$(CLIENT_SRCS)) $(CLIENT_BASE_SRCS)
test_loadgen_LIBS = -lcmocka $(CLIENT_LIBS)

# Long load at 80 % of the measured maximum while limits and models change: make soak [SECONDS=n].
soak: deps
	$(Q)$(MAKE) $(JOBS) $(BUILD)/.all
	$(Q)BUILD=$(BUILD) SOAK_SECONDS=$(if $(filter command line,$(origin SECONDS)),$(SECONDS),600) perf/soak.sh
.PHONY: soak
