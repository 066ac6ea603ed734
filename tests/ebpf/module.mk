# The XDP program run by the kernel, and control's loader; both as root in namespaces of their own.
TESTS += test_xdp test_shield test_xdp_load

XDP_RIG_SRCS = tests/ebpf/xdp_rig.c tests/ebpf/sandbox.c $(FIXTURE_SRCS) dataplane/parse.c $(EBPF_SRCS) \
	$(BASE_SRCS)
test_xdp_SRCS = tests/ebpf/test_xdp.c $(XDP_RIG_SRCS)
test_xdp_LIBS = -lcmocka $(EBPF_LIBS) $(BASE_LIBS)
test_shield_SRCS = tests/ebpf/test_shield.c $(XDP_RIG_SRCS)
test_shield_LIBS = -lcmocka $(EBPF_LIBS) $(BASE_LIBS)

test_xdp_load_SRCS = tests/ebpf/test_xdp_load.c tests/ebpf/sandbox.c $(EBPF_SRCS) $(BASE_SRCS)
test_xdp_load_LIBS = -lcmocka $(EBPF_LIBS) $(BASE_LIBS)
