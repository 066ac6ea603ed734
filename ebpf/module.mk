# The XDP object (clang, BPF) and the loader that control links.
EXTRA += $(BUILD)/bin/xdp_filter.bpf.o

EBPF_SRCS = ebpf/xdp_load.c ebpf/limit_table.c
EBPF_LIBS = -lbpf

BPF_CFLAGS := -target bpf -mcpu=v3 -std=gnu17 -ffreestanding -O2 -g -Wall -Wextra -Werror -Wshadow \
	-I. -Idataplane -I/usr/include/$(shell $(CC) -print-multiarch)

$(BUILD)/bin/xdp_filter.bpf.o: ebpf/xdp_filter.bpf.c ebpf/maps.bpf.h ebpf/parse.bpf.h ebpf/module.mk \
	$(addprefix dataplane/abi/,types.h wire.h limits.h shield.h xdp_maps.h)
	@mkdir -p $(@D)
	$(call say,BPF,$@)$(CLANG) $(BPF_CFLAGS) -c $< -o $@
