# SPDX-License-Identifier: BSD-3-Clause
# millrace-loader and its test.
LOADER_CORE := $(addprefix control/loader/,artifact.c hasher.c reader.c target.c load.c)

PROGRAMS += millrace-loader
millrace-loader_SRCS = control/loader/main.c control/loader/sandbox.c $(LOADER_CORE) $(BASE_SRCS)
millrace-loader_LIBS = -luring -lseccomp $(BASE_LIBS)

TESTS += test_loader
test_loader_SRCS = tests/ctl/test_loader.c tests/ctl/t_artifact.c $(LOADER_CORE) $(BASE_SRCS)
test_loader_LIBS = -luring $(BASE_LIBS) -lcmocka \
	-Wl,--wrap=pread -Wl,--wrap=io_uring_submit_and_wait

FUZZERS += fuzz_loader
fuzz_loader_SRCS = tests/fuzz/fuzz_loader.c control/loader/artifact.c dataplane/base/error.c
fuzz_loader_LIBS = -lcrypto
