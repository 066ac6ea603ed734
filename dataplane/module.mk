# millrace-dataplane, its tests over port_mem, and the parser's fuzz harness. Only the files that talk to
# DPDK see its flags (they carry -march=corei7).

# Everything a worker needs, without DPDK: linked by the program, the pipeline tests and benches.
WORKER_SRCS := $(addprefix dataplane/,parse.c neighbour.c replay.c sessions.c ratchet.c handover.c limits_view.c \
	model_slot.c cost.c admission.c gateway.c wide.c segments.c text_hash.c reply_store.c cache.c path.c live_model.c \
	fair.c job.c backlog.c engine.c doze.c recall.c trace.c worker.c rx.c classify.c auth.c limit.c batch.c infer.c reply.c \
	tx.c)
WORKER_LIBS = $(RUN_LIBS) $(BASE_LIBS) -lbpf

TESTS += test_replay test_pipeline test_strange test_admission test_neighbours test_gateway
test_replay_SRCS = tests/pipeline/test_replay.c dataplane/replay.c
test_replay_LIBS = -lcmocka
RIG_SRCS = tests/pipeline/rig.c tests/pipeline/rig_model.c dataplane/port_mem.c $(WORKER_SRCS) $(RUN_SRCS) \
	$(BASE_SRCS)
test_pipeline_SRCS = tests/pipeline/test_pipeline.c $(RIG_SRCS)
test_pipeline_LIBS = -lcmocka $(WORKER_LIBS)
test_strange_SRCS = tests/pipeline/test_strange.c $(RIG_SRCS)
test_strange_LIBS = -lcmocka $(WORKER_LIBS)
test_admission_SRCS = tests/pipeline/test_admission.c $(RIG_SRCS)
test_admission_LIBS = -lcmocka $(WORKER_LIBS)
test_neighbours_SRCS = tests/pipeline/test_neighbours.c $(RIG_SRCS)
test_neighbours_LIBS = -lcmocka $(WORKER_LIBS)
TESTS += test_path test_ratchet
test_path_SRCS = tests/pipeline/test_path.c tests/pipeline/rig_wide.c $(RIG_SRCS)
test_path_LIBS = -lcmocka $(WORKER_LIBS)
test_ratchet_SRCS = tests/pipeline/test_ratchet.c dataplane/client/channel.c $(RIG_SRCS)
test_ratchet_LIBS = -lcmocka $(WORKER_LIBS)
test_gateway_SRCS = tests/pipeline/test_gateway.c $(RIG_SRCS)
test_gateway_LIBS = -lcmocka $(WORKER_LIBS)

# DPDK is linked statically, and only what we use: with the shared libraries EAL loads every driver of the
# distribution at each start (150-260 ms), which a restart has no time for.
DPDK_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags libdpdk 2>/dev/null))
DPDK_DRIVERS := mempool_ring bus_vdev bus_pci net_af_xdp net_memif net_null net_ring net_e1000 net_ixgbe \
	net_i40e net_ice net_iavf net_virtio net_vmxnet3 net_ena
DPDK_CORE := common_iavf ethdev net mbuf mempool ring meter pci timer security cryptodev hash rcu ip_frag \
	kvargs telemetry eal
DPDK_LIBS := -Wl,--whole-archive $(DPDK_DRIVERS:%=-l:librte_%.a) -Wl,--no-whole-archive -Wl,--start-group \
	$(DPDK_CORE:%=-l:librte_%.a) -Wl,--end-group -Wl,--wrap=memif_free_regions -lxdp -lbpf -lnuma -lbsd -ldl
CFLAGS_dataplane/port_dpdk.c := $(DPDK_CFLAGS)
CFLAGS_dataplane/eal.c := $(DPDK_CFLAGS)

PROGRAMS += millrace-dataplane
millrace-dataplane_SRCS = $(addprefix dataplane/,main.c config_check.c eal_args.c eal.c port_dpdk.c regions.c \
	link.c service.c commands.c) $(WORKER_SRCS) $(RUN_SRCS) $(BASE_SRCS)
millrace-dataplane_LIBS = $(DPDK_LIBS) $(WORKER_LIBS)

TESTS += test_program
test_program_SRCS = tests/pipeline/test_program.c tests/ebpf/sandbox.c $(EBPF_SRCS) $(RIG_SRCS)
test_program_LIBS = -lcmocka $(WORKER_LIBS) $(EBPF_LIBS)
$(BUILD)/tests/test_program: | $(BUILD)/bin/millrace-dataplane $(BUILD)/bin/xdp_filter.bpf.o

FUZZERS += fuzz_parse
fuzz_parse_SRCS := tests/fuzz/fuzz_parse.c dataplane/parse.c dataplane/neighbour.c

TESTS += test_workers test_backlog
test_backlog_SRCS = tests/pipeline/test_backlog.c $(RIG_SRCS)
test_backlog_LIBS = -lcmocka $(WORKER_LIBS)
test_workers_SRCS = tests/pipeline/test_workers.c $(RIG_SRCS)
test_workers_LIBS = -lcmocka $(WORKER_LIBS)
$(BUILD)/tests/test_gateway: | $(BUILD)/models/risk.mrm

TESTS += test_segments
test_segments_SRCS = tests/pipeline/test_segments.c tests/pipeline/rig_wide.c $(RIG_SRCS)
test_segments_LIBS = -lcmocka $(WORKER_LIBS)
TESTS += test_reply_store
test_reply_store_SRCS = tests/pipeline/test_reply_store.c tests/pipeline/rig_wide.c $(RIG_SRCS)
test_reply_store_LIBS = -lcmocka $(WORKER_LIBS)
# The real client against the real worker: the client's files that the worker does not link already.
TESTS += test_loss
test_loss_SRCS = tests/pipeline/test_loss.c tests/pipeline/rig_wide.c tests/unit/t_control.c $(RIG_SRCS) $(CLIENT_SRCS)
test_loss_LIBS = -lcmocka $(CLIENT_LIBS) $(WORKER_LIBS)

FUZZERS += fuzz_segments
fuzz_segments_SRCS = tests/fuzz/fuzz_segments.c tests/pipeline/rig_wide.c $(filter-out $(VAES_SRCS),$(RIG_SRCS))
fuzz_segments_LIBS = -lcmocka $(WORKER_LIBS)

TESTS += test_recall
test_recall_SRCS = tests/pipeline/test_recall.c tests/pipeline/rig_wide.c $(RIG_SRCS)
test_recall_LIBS = -lcmocka $(WORKER_LIBS)
TESTS += test_trace
test_trace_SRCS = tests/pipeline/test_trace.c tests/pipeline/rig_wide.c $(RIG_SRCS)
test_trace_LIBS = -lcmocka $(WORKER_LIBS)
