/* SPDX-License-Identifier: BSD-3-Clause
 * Pinned maps and attached programs on a real veth, in namespaces of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/fd.h"
#include "ebpf/limit_table.h"
#include "ebpf/xdp_load.h"
#include "tests/ebpf/sandbox.h"

static struct xdp_maps open_maps(void)
{
	struct xdp_maps m;
	struct error err = {0};

	if (xdp_maps_open(&m, XDP_BPFFS_DIR, &err))
		fail_msg("%s", err.text);
	return m;
}

static uint32_t map_id(int fd)
{
	struct bpf_map_info info = {0};
	uint32_t n = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &n), 0);
	return info.id;
}

static bool pinned(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", XDP_BPFFS_DIR, name);
	return access(path, F_OK) == 0;
}

static void maps_survive_their_opener(void **state)
{
	struct xdp_session s = {{{1, 2, 3}}, 9, 0};
	struct xdp_params in = {4433, XDP_TO_DATAPLANE, XDP_DISCARD, 1}, out;
	struct xdp_maps m = open_maps();
	uint32_t id = map_id(m.limits);

	(void)state;
	assert_int_equal(xdp_session_set(&m, 7, &s), 0);
	assert_int_equal(xdp_params_set(&m, &in), 0);
	xdp_maps_close(&m);
	m = open_maps();
	assert_int_equal(map_id(m.limits), id);
	assert_int_equal(xdp_params_get(&m, &out), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_int_equal(xdp_session_remove(&m, 7), 0);
	assert_int_equal(xdp_session_remove(&m, 7), -ENOENT);
	xdp_maps_close(&m);
	assert_int_equal(xdp_maps_unpin(XDP_BPFFS_DIR), 0);
}

/* What the driver does when it loads the object: libbpf must take our maps, not make its own. */
static void the_object_adopts_the_pinned_maps(void **state)
{
	struct xdp_maps m = open_maps();
	struct bpf_object *o = bpf_object__open_file(sandbox_object(), NULL);
	struct bpf_program *p;

	(void)state;
	assert_non_null(o);
	assert_int_equal(bpf_object__load(o), 0);
	assert_int_equal(map_id(bpf_object__find_map_fd_by_name(o, XDP_MAP_LIMITS)), map_id(m.limits));
	assert_int_equal(map_id(bpf_object__find_map_fd_by_name(o, XDP_MAP_SESSIONS)),
		map_id(m.sessions));
	assert_int_equal(map_id(bpf_object__find_map_fd_by_name(o, XDP_MAP_PARAMS)), map_id(m.params));
	assert_int_equal(map_id(bpf_object__find_map_fd_by_name(o, XDP_MAP_COUNTERS)),
		map_id(m.counters));
	assert_int_equal(map_id(bpf_object__find_map_fd_by_name(o, XDP_MAP_FLOOD)), map_id(m.flood));
	assert_int_equal(map_id(bpf_object__find_map_fd_by_name(o, XDP_MAP_BOX)), map_id(m.box));
	assert_true(bpf_object__find_map_fd_by_name(o, XDP_MAP_XSKS) >= 0);
	p = bpf_object__next_program(o, NULL);
	assert_memory_equal(bpf_program__name(p), XDP_PROGRAM_NAME, strlen(XDP_PROGRAM_NAME));
	assert_null(bpf_object__next_program(o, p));
	bpf_object__close(o);
	xdp_maps_close(&m);
	xdp_maps_unpin(XDP_BPFFS_DIR);
}

static void a_pinned_map_of_another_shape_is_refused_by_name(void **state)
{
	struct error err = {0};
	struct xdp_maps m;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "stranger", 4, 16, 1, NULL);

	(void)state;
	assert_int_equal(bpf_obj_pin(fd, XDP_BPFFS_DIR "/" XDP_MAP_PARAMS), 0);
	assert_int_equal(xdp_maps_open(&m, XDP_BPFFS_DIR, &err), -EEXIST);
	assert_non_null(strstr(err.text, XDP_MAP_PARAMS));
	assert_false(pinned(XDP_MAP_LIMITS)); /* nothing half done */
	assert_true(pinned(XDP_MAP_PARAMS));
	close(fd);
	xdp_maps_unpin(XDP_BPFFS_DIR);
	assert_false(pinned(XDP_MAP_PARAMS));
}

static void a_directory_that_is_no_bpffs_is_refused(void **state)
{
	struct error err = {0};
	struct xdp_maps m;

	(void)state;
	assert_int_equal(xdp_maps_open(&m, "/tmp", &err), -ENOTDIR);
	assert_non_null(strstr(err.text, "mount -t bpf"));
	assert_int_equal(xdp_maps_open(&m, "/no/such/place", &err), -ENOENT);
	xdp_maps_close(&m);
}

static void impossible_parameters_are_refused(void **state)
{
	struct xdp_maps m = open_maps();
	struct xdp_params port0 = {0, 0, 0, 1}, big = {65536, 0, 0, 1}, route = {1, 3, 0, 1};

	(void)state;
	assert_int_equal(xdp_params_set(&m, &port0), -EINVAL);
	assert_int_equal(xdp_params_set(&m, &big), -EINVAL);
	assert_int_equal(xdp_params_set(&m, &route), -EINVAL);
	xdp_maps_close(&m);
	xdp_maps_unpin(XDP_BPFFS_DIR);
}

static void a_full_session_map_refuses_one_more_and_empties_again(void **state)
{
	struct xdp_maps m = open_maps();
	struct xdp_session s = {{{0}}, 1, 0};

	(void)state;
	for (uint32_t i = 0; i < XDP_MAX_SESSIONS; i++)
		assert_int_equal(xdp_session_set(&m, i * 2654435761u, &s), 0);
	assert_int_equal(xdp_session_set(&m, 1, &s), -E2BIG);
	assert_int_equal(xdp_session_set(&m, 2654435761u, &s), 0); /* replacing still works */
	assert_int_equal(xdp_sessions_clear(&m), XDP_MAX_SESSIONS);
	assert_int_equal(xdp_sessions_clear(&m), 0);
	xdp_maps_close(&m);
	xdp_maps_unpin(XDP_BPFFS_DIR);
}

static int attach(const char *interface, int prog, uint32_t flags)
{
	return bpf_xdp_attach((int)if_nametoindex(interface), prog, flags, NULL);
}

static void our_stale_program_is_removed_and_its_mode_known(void **state)
{
	static const struct { uint32_t flags, mode; } ways[] = {
		{XDP_FLAGS_DRV_MODE, XDP_MODE_NATIVE}, {XDP_FLAGS_SKB_MODE, XDP_MODE_GENERIC}};
	struct bpf_object *o = bpf_object__open_file(sandbox_object(), NULL);
	struct xdp_attached a;
	struct error err = {0};

	(void)state;
	assert_int_equal(bpf_object__load(o), 0);
	assert_int_equal(xdp_remove_stale("mr0", &err), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(attach("mr0", bpf_program__fd(bpf_object__next_program(o, NULL)),
			ways[i].flags), 0);
		assert_int_equal(xdp_attached("mr0", &a, &err), 0);
		assert_int_equal(a.mode, ways[i].mode);
		assert_true(a.ours);
		assert_string_equal(a.program_name, "mr_xdp");
		assert_int_equal(xdp_remove_stale("mr0", &err), 1);
		assert_int_equal(xdp_attached("mr0", &a, &err), 0);
		assert_int_equal(a.mode, XDP_MODE_NONE);
	}
	bpf_object__close(o);
	xdp_maps_unpin(XDP_BPFFS_DIR);
}

static void a_foreign_program_is_named_and_left_alone(void **state)
{
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	struct xdp_attached a;
	struct error err = {0};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "neighbourly", "GPL", pass, 2, NULL);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(attach("mr0", fd, XDP_FLAGS_SKB_MODE), 0);
	assert_int_equal(xdp_remove_stale("mr0", &err), -EBUSY);
	assert_non_null(strstr(err.text, "neighbourly"));
	assert_int_equal(xdp_attached("mr0", &a, &err), 0);
	assert_false(a.ours);
	assert_int_equal(a.mode, XDP_MODE_GENERIC);
	bpf_xdp_detach((int)if_nametoindex("mr0"), XDP_FLAGS_SKB_MODE, NULL);
	close(fd);
}

static void an_absent_interface_is_named(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(xdp_remove_stale("nosuch0", &err), -ENODEV);
	assert_non_null(strstr(err.text, "nosuch0"));
}

static void map_and_memfd_give_the_same_table(void **state)
{
	struct limit_plan plan = {.rate_per_s = 1000, .burst_units = 10, .flags = LIMIT_ACTIVE};
	struct xdp_maps m = open_maps();
	struct limit_table map = {0}, mem = {0};
	struct limit_slot seen;
	uint32_t key = LIMITS_MAX_SLOTS - 1;
	struct error err = {0};
	size_t bytes = 0;
	void *p = NULL;

	(void)state;
	assert_int_equal(limit_table_map(&map, m.limits, &err), 0);
	assert_int_equal(limit_table_memfd(&mem, &err), 0);
	assert_int_equal(limits_set(&map.slots[key], &plan, 5, &err), 0);
	assert_int_equal(limits_set(&mem.slots[key], &plan, 5, &err), 0);
	assert_memory_equal(&map.slots[key], &mem.slots[key], sizeof(struct limit_slot));
	assert_int_equal(bpf_map_lookup_elem(m.limits, &key, &seen), 0);
	assert_int_equal(seen.interval_ticks, 16000000);
	assert_int_equal(fd_region_map(mem.fd, true, false, &p, &bytes, &err), 0);
	assert_int_equal(bytes, sizeof(struct limit_slot) * LIMITS_MAX_SLOTS);
	munmap(p, bytes);
	limit_table_uninit(&map);
	limit_table_uninit(&mem);
	limit_table_uninit(&mem);
	xdp_maps_close(&m);
	xdp_maps_unpin(XDP_BPFFS_DIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_survive_their_opener),
		cmocka_unit_test(the_object_adopts_the_pinned_maps),
		cmocka_unit_test(a_pinned_map_of_another_shape_is_refused_by_name),
		cmocka_unit_test(a_directory_that_is_no_bpffs_is_refused),
		cmocka_unit_test(impossible_parameters_are_refused),
		cmocka_unit_test(a_full_session_map_refuses_one_more_and_empties_again),
		cmocka_unit_test(our_stale_program_is_removed_and_its_mode_known),
		cmocka_unit_test(a_foreign_program_is_named_and_left_alone),
		cmocka_unit_test(an_absent_interface_is_named),
		cmocka_unit_test(map_and_memfd_give_the_same_table),
	};
	int rc = sandbox_enter();

	if (!rc && system("ip link add mr0 type veth peer name mr1 && ip link set mr0 up"))
		rc = -ENOTSUP;
	if (rc) {
		print_message("skipped: private namespaces, bpffs and veth need root: %s\n",
			strerror(-rc));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
