# Millrace: one Makefile; every folder adds its programs and tests in its own module.mk.
#
#   PROGRAMS += name        name_SRCS, name_LIBS        -> build/bin/name
#   TESTS    += name        name_SRCS, name_LIBS        -> build/tests/name, run by `make test`
#   MICRO    += name        name_SRCS, name_LIBS        -> build/perf/name, run by `make bench`
#   FUZZERS  += name        name_SRCS, name_LIBS        -> build/fuzz/name (clang, libFuzzer); corpus in tests/fuzz/corpus/name
#   TEST_SCRIPTS += path    run by `make test` after the TESTS, with BUILD in the environment
#   CFLAGS_<dir or file>    extra flags for one folder or one file (slashes kept)
#
# V=1 shows commands; SAN=address,undefined or SAN=thread builds everything instrumented; FAILPOINTS=1 builds
# with the places where tests kill (base/failpoint.h), into a folder of its own.

SAN   ?=
FAILPOINTS ?=
comma := ,
BUILD := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))$(if $(FAILPOINTS),/failpoints)
CC    := gcc
CLANG := clang
Q     := $(if $(V),,@)
say    = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)';)

WARN  := -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wpointer-arith \
	 -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wformat=2
HARDEN := -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -fPIE \
	 -ftrivial-auto-var-init=zero $(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
# GCC 12's fake stack (detect_stack_use_after_return) aligns frames to 32 bytes: a spilled zmm faults.
ZMM_SANFLAGS := $(if $(findstring address,$(SAN)),--param=asan-use-after-return=0)
CFLAGS := -std=gnu17 -O2 -g $(WARN) $(HARDEN) $(SANFLAGS) -D_GNU_SOURCE $(if $(FAILPOINTS),-DMILLRACE_FAILPOINTS) \
	 -MMD -MP -I. -Idataplane -I$(BUILD)/gen
LDFLAGS := -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack -Wl,--as-needed $(SANFLAGS)
LDLIBS := -lpthread -lm

.DEFAULT_GOAL := help
PROGRAMS :=
TESTS :=
MICRO :=
FUZZERS :=
TEST_SCRIPTS :=
EXTRA :=

-include $(sort $(wildcard dataplane/base/module.mk)) $(sort $(filter-out dataplane/base/module.mk,\
	$(wildcard */module.mk */*/module.mk)))

# ---------------------------------------------------------------------------------------------
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(BUILD)/gen/%,$(1))) \
      $(patsubst $(BUILD)/gen/%.c,$(BUILD)/obj/gen/%.o,$(filter $(BUILD)/gen/%,$(1)))

# Flags of a file: those of its folder, of every folder above it, and its own, in that order.
fileflags = $(CFLAGS_$(firstword $(subst /, ,$(1)))) $(if $(filter-out $(firstword $(subst /, ,$(1))),\
	$(patsubst %/,%,$(dir $(1)))),$(CFLAGS_$(patsubst %/,%,$(dir $(1))))) $(CFLAGS_$(1))

# An object follows its source, the Makefile and its folder's module.mk (flags).
.SECONDEXPANSION:
$(BUILD)/obj/%.o: %.c Makefile $$(wildcard $$(dir $$*)module.mk)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CFLAGS) $(call fileflags,$<) -c $< -o $@

$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CFLAGS) -w -c $< -o $@

# One link rule, instantiated per program: $(1) name, $(2) output folder.
define link_rule
$(BUILD)/$(2)/$(1): $(call obj,$($(1)_SRCS))
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)$(CC) -o $$@ $$^ $(LDFLAGS) $($(1)_LIBS) $(LDLIBS)
-include $(patsubst %.o,%.d,$(call obj,$($(1)_SRCS)))
endef
$(foreach p,$(PROGRAMS),$(eval $(call link_rule,$(p),bin)))
$(foreach p,$(TESTS),$(eval $(call link_rule,$(p),tests)))
$(foreach p,$(MICRO),$(eval $(call link_rule,$(p),perf)))

# A fuzzer is compiled in one go by clang with libFuzzer; its seeds run as a plain test in `make test`.
define fuzz_rule
$(BUILD)/fuzz/$(1): $($(1)_SRCS) Makefile | $(EXTRA)
	@mkdir -p $$(@D)
	$$(call say,FUZZ,$$@)$(CLANG) -std=gnu17 -O1 -g -w -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -D_GNU_SOURCE -I. -Idataplane -I$(BUILD)/gen $($(1)_CFLAGS) \
		-o $$@ $($(1)_SRCS) $($(1)_LIBS) $(LDLIBS)
endef
$(foreach p,$(FUZZERS),$(eval $(call fuzz_rule,$(p))))

# ---------------------------------------------------------------------------------------------
# Recipes that need packages install them first and then read the Makefile again (pkg-config).
JOBS := --no-print-directory -j$(shell nproc)
PACKAGES := build-essential pkg-config libdpdk-dev dpdk-dev liburing-dev libopenblas-dev libssl-dev \
	libbpf-dev libxdp-dev bpftool clang llvm libclang-rt-14-dev libelf-dev libipsec-mb-dev \
	libevent-dev libsqlite3-dev libjansson-dev libcyaml-dev libyaml-dev libedit-dev \
	libprotobuf-c-dev protobuf-c-compiler libonnx-dev libcmocka-dev libseccomp-dev \
	python3-pytest python3-scapy python3-cryptography python3-onnx python3-numpy python3-sklearn python3-torch \
	libonnx-testdata libsimde-dev spin iproute2 ethtool systemd curl jq shellcheck procps util-linux kmod \
	python3-matplotlib

deps: ## install what is missing with apt-get; nothing when all is there
	$(Q)firmware-config/deps.sh $(PACKAGES)

all: deps ## install packages and build everything
	$(Q)$(MAKE) $(JOBS) $(BUILD)/.all
$(BUILD)/.all: $(EXTRA) $(addprefix $(BUILD)/bin/,$(PROGRAMS))
	@mkdir -p $(@D) && touch $@

tests-built: $(BUILD)/.all $(addprefix $(BUILD)/tests/,$(TESTS)) \
	$(if $(SAN),,$(addprefix $(BUILD)/fuzz/,$(FUZZERS)))

run: deps ## the whole machine on real input: build, start, classify held-out images over AF_XDP
	$(Q)$(MAKE) $(JOBS) $(BUILD)/.all
	$(Q)BUILD=$(BUILD) firmware-config/run-demo.sh

test: deps ## every suite; last line `N passed, N failed, N skipped`
	$(Q)$(MAKE) $(JOBS) tests-built
	$(Q)BUILD=$(BUILD) SAN=$(SAN) tests/run.sh $(addprefix $(BUILD)/tests/,$(TESTS)) $(TEST_SCRIPTS)

bench: deps ## the performance table, ours and the peers', in one run (BENCH=id,id runs some)
	$(Q)$(MAKE) $(JOBS) $(BUILD)/.all $(addprefix $(BUILD)/perf/,$(MICRO))
	$(Q)BUILD=$(BUILD) BENCH="$(BENCH)" perf/bench.sh

lint: deps ## house rules: format, file heads, forbidden tokens, shellcheck
	$(Q)tests/lint.sh

SECONDS ?= 60
fuzz: deps ## run every fuzz harness for SECONDS=n each
	$(Q)$(MAKE) $(JOBS) $(addprefix $(BUILD)/fuzz/,$(FUZZERS))
	$(Q)BUILD=$(BUILD) SECONDS_EACH=$(SECONDS) tests/fuzz/run.sh $(FUZZERS)

PREFIX ?= /usr/local
install: $(BUILD)/.all ## install programs, configuration and systemd units under PREFIX
	$(Q)BUILD=$(BUILD) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) firmware-config/install.sh

clean: ## remove everything that was built
	$(Q)rm -rf build

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: deps all run test tests-built bench lint fuzz install clean help
.DELETE_ON_ERROR:
