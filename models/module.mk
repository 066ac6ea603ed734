# Model engine, compiler, millrace-model, the zoo's artifacts, and their tests.

# The ONNX schema's reader is generated; objects that include it wait for the header.
ONNX_GEN := $(BUILD)/gen/onnx/onnx.pb-c
$(ONNX_GEN).c $(ONNX_GEN).h &: /usr/include/onnx/onnx.proto
	@mkdir -p $(@D)
	$(Q)protoc-c --c_out=$(BUILD)/gen/onnx -I/usr/include/onnx $<

RUN_SRCS := $(addprefix models/run/,check.c check_tensor.c conv_avx2.c conv_avx512.c \
	conv_last.c conv_scalar.c dense_dot512.c dense_scalar.c pool_last.c elementwise.c \
	embedding.c gather.c \
	kernel_avx2.c kernel_avx512.c kernel_native.c kernel_openblas.c kernel_scalar.c model.c \
	movement.c product.c recurrent.c reduce.c run.c tensor.c topk.c topk_avx2.c \
	trees.c trees_avx2.c trees_walk.c window.c)
RUN_SRCS += $(addprefix models/run/,attention.c unary.c vectors_avx2.c vectors_avx512.c vectors_scalar.c)
RUN_LIBS := -lopenblas -lm
COMPILE_SRCS := $(addprefix models/compile/,arena.c artifact.c compile.c ensemble.c fold.c ir.c \
	layout.c lower.c lower_index.c lower_math.c lower_ml.c lower_nn.c lower_quant.c lower_shape.c \
	onnx_read.c onnx_wire.c \
	operators.c pack.c passes.c plan.c sign.c) $(ONNX_GEN).c
COMPILE_SRCS += $(addprefix models/compile/,fuse_attention.c fuse_elementwise.c \
	fuse_embedding.c fuse_lookups.c fuse_norm.c match.c moves.c pack_recurrent.c)
COMPILE_LIBS := -lprotobuf-c -lcrypto

CFLAGS_models/run := -O3
CFLAGS_models/run/kernel_avx2.c := -mavx2 -mfma
CFLAGS_models/run/topk_avx2.c := -mavx2 -mbmi -mpopcnt
CFLAGS_models/run/trees_avx2.c := $(CFLAGS_models/run/topk_avx2.c)
CFLAGS_models/run/conv_avx2.c := $(CFLAGS_models/run/kernel_avx2.c)
CFLAGS_models/run/vectors_avx2.c := $(CFLAGS_models/run/kernel_avx2.c)
AVX2 := -mavx2 -mfma
AVX512 := -mavx512f -mavx512dq -mavx512vl -mfma $(ZMM_SANFLAGS)
# Every family rounds a reduced layer's results alike: no multiplication may melt into an addition.
CFLAGS_models/run/kernel_avx2.c := $(AVX2) -ffp-contract=off
CFLAGS_models/run/kernel_avx512.c := $(AVX512) -ffp-contract=off
CFLAGS_models/run/dense_dot512.c := $(AVX512) -mavx512bw -mavx512vnni -mavx512bf16 -ffp-contract=off
CFLAGS_models/run/conv_avx2.c := $(AVX2)
CFLAGS_models/run/vectors_avx2.c := $(AVX2)
CFLAGS_models/run/conv_avx512.c := $(AVX512)
CFLAGS_models/run/vectors_avx512.c := $(AVX512)

PROGRAMS += millrace-model
TOOL_SRCS := $(addprefix models/tool/,bench.c bench_ops.c compile.c file.c inspect.c main.c peak.c \
	rows.c run.c sign.c steps.c test.c tune.c)
millrace-model_SRCS = $(TOOL_SRCS) $(COMPILE_SRCS) $(RUN_SRCS) $(BASE_SRCS)
millrace-model_LIBS = $(COMPILE_LIBS) $(RUN_LIBS) $(BASE_LIBS)

# Order only: a newer schema is a newer libonnx-dev, which `make clean` follows.
$(patsubst %.c,$(BUILD)/obj/%.o,$(filter models/compile/%,$(COMPILE_SRCS)) $(TOOL_SRCS) \
	tests/models/test_engine.c) $(BUILD)/obj/gen/onnx/onnx.pb-c.o: | $(ONNX_GEN).h

# The zoo's artifacts.
ZOO := digits risk fraud churn ranker digits-cnn forest twotower
EXTRA += $(ZOO:%=$(BUILD)/models/%.mrm)
$(BUILD)/models/%.mrm: models/zoo/%/model.onnx $(BUILD)/bin/millrace-model
	@mkdir -p $(@D)
	$(call say,MODEL,$@)$(BUILD)/bin/millrace-model compile $< -o $@ --name $*

TESTS += test_engine
test_engine_SRCS = tests/models/test_engine.c $(COMPILE_SRCS) $(RUN_SRCS) $(BASE_SRCS)
test_engine_LIBS = -lcmocka $(COMPILE_LIBS) $(RUN_LIBS) $(BASE_LIBS)

# These include the AVX-512 kernels; SIMDe does not compile without warnings.
CFLAGS_tests/models/simde_avx512.c := -O2 -w -Wno-psabi
CFLAGS_tests/models/simde_dense.c := -O2 -w -Wno-psabi
CFLAGS_tests/models/simde_dot512.c := -O2 -w -Wno-psabi
TESTS += test_kernels
test_kernels_SRCS = tests/models/test_kernels.c tests/models/simde_dense.c \
	tests/models/simde_dot512.c $(RUN_SRCS) $(BASE_SRCS)
test_kernels_LIBS = -lcmocka $(RUN_LIBS) $(BASE_LIBS)

TESTS += test_passes
test_passes_SRCS = tests/models/test_passes.c $(COMPILE_SRCS) $(RUN_SRCS) $(BASE_SRCS)
test_passes_LIBS = -lcmocka $(COMPILE_LIBS) $(RUN_LIBS) $(BASE_LIBS)

TESTS += test_vectors
test_vectors_SRCS = tests/models/test_vectors.c tests/models/simde_avx512.c \
	$(addprefix models/run/,vectors_avx2.c vectors_avx512.c vectors_scalar.c)
test_vectors_LIBS = -lcmocka -lm

# Fuzzers are built without ISA flags: the native kernels step aside for the scalar reference.
FUZZERS += fuzz_onnx fuzz_artifact fuzz_npy
fuzz_npy_SRCS = tests/fuzz/fuzz_npy.c $(addprefix dataplane/base/,error.c file_replace.c npy.c)
fuzz_onnx_SRCS = tests/fuzz/fuzz_onnx.c $(COMPILE_SRCS) $(RUN_SRCS) dataplane/base/error.c
fuzz_onnx_LIBS = $(COMPILE_LIBS) $(RUN_LIBS)
fuzz_artifact_SRCS = tests/fuzz/fuzz_artifact.c $(RUN_SRCS) dataplane/base/error.c
fuzz_artifact_LIBS = $(RUN_LIBS)

TEST_SCRIPTS += tests/models/test_onnx.sh tests/models/test_zoo.sh tests/models/test_exporters.sh \
	tests/models/test_differential.sh tests/models/test_precision.sh tests/models/test_trees.sh \
	tests/models/test_sequence.sh

MICRO += bench_gemm bench_cores
bench_cores_SRCS = perf/micro/bench_cores.c $(RUN_SRCS) $(BASE_SRCS)
bench_cores_LIBS = $(RUN_LIBS) $(BASE_LIBS)
bench_gemm_SRCS = perf/micro/bench_gemm.c models/tool/peak.c $(RUN_SRCS) $(BASE_SRCS)
bench_gemm_LIBS = $(RUN_LIBS) $(BASE_LIBS)
