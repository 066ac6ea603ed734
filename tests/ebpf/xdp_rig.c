/* SPDX-License-Identifier: BSD-3-Clause
 * The XDP program for tests: see xdp_rig.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "tests/ebpf/sandbox.h"
#include "tests/ebpf/xdp_rig.h"

static const struct limit_plan free_plan = {.rate_per_s = 1e6, .burst_units = 1000,
	.refused_per_s = 0.001, .flags = LIMIT_ACTIVE};
static const struct limit_plan tiny_plan = {.rate_per_s = 0.01, .burst_units = 1,
	.refused_per_s = 0.001, .flags = LIMIT_ACTIVE};

void xdp_rig_exhaust(struct limit_slot *slot)
{
	uint64_t now = limits_ticks(clock_now_ns());

	while (limits_charge(slot, now, 1).verdict == LIMIT_ADMITTED)
		;
	while (limits_charge_refusal(slot, now))
		;
}

void xdp_rig_params(struct xdp_rig *r, uint32_t neighbours, uint32_t other, uint32_t enabled)
{
	struct xdp_params p = {FIXTURE_PORT, neighbours, other, enabled};

	assert_int_equal(xdp_params_set(&r->maps, &p), 0);
}

void xdp_rig_empty(int map)
{
	struct ip_addr key;

	while (bpf_map_get_next_key(map, NULL, &key) == 0)
		bpf_map_delete_elem(map, &key);
}

void xdp_rig_world(struct xdp_rig *r)
{
	xdp_rig_params(r, XDP_TO_KERNEL, XDP_TO_KERNEL, 1);
	xdp_rig_empty(r->maps.flood);
	xdp_rig_empty(r->maps.box);
	for (int i = 0; i < FIXTURE_SESSIONS; i++) {
		const struct fixture_session *s = &fixture_sessions[i];
		struct xdp_session entry = {*s->source, s->subscriber, 0};
		struct limit_slot *slot = &r->limits.slots[s->subscriber];

		limits_clear(slot);
		assert_int_equal(limits_set(slot, s->shouting ? &tiny_plan : &free_plan,
				clock_now_ns(), NULL), 0);
		if (s->shouting)
			xdp_rig_exhaust(slot);
		assert_int_equal(xdp_session_set(&r->maps, s->key_id, &entry), 0);
	}
}

static int rig_setup(void **state)
{
	struct xdp_rig *r = calloc(1, sizeof(*r));
	uint32_t queue = 0;
	struct error err = {0};

	r->parse = (struct parse_config){.ipv4 = fixture_server4, .ipv6 = fixture_server6,
		.udp_port = FIXTURE_PORT, .lanes = WIRE_MAX_LANES};
	memcpy(r->parse.mac, fixture_server_mac, 6);
	if (xdp_maps_open(&r->maps, XDP_BPFFS_DIR, &err) ||
		limit_table_map(&r->limits, r->maps.limits, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	r->object = bpf_object__open_file(sandbox_object(), NULL);
	if (!r->object || bpf_object__load(r->object)) {
		print_error("%s does not load\n", sandbox_object());
		return -1;
	}
	r->program = bpf_program__fd(bpf_object__next_program(r->object, NULL));
	r->xsks = bpf_object__find_map_fd_by_name(r->object, XDP_MAP_XSKS);
	r->socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	*state = r;
	return bpf_map_update_elem(r->xsks, &queue, &r->socket, 0);
}

static int rig_teardown(void **state)
{
	struct xdp_rig *r = *state;

	close(r->socket);
	bpf_object__close(r->object);
	limit_table_uninit(&r->limits);
	xdp_maps_close(&r->maps);
	free(r);
	return 0;
}

int xdp_rig_run(struct xdp_rig *r, const uint8_t *data, size_t n, int *counter)
{
	uint64_t before[XDP_COUNTERS], after[XDP_COUNTERS];
	uint8_t out[FRAME_MAX];
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = data, .data_size_in = (uint32_t)n,
		.data_out = out, .data_size_out = sizeof(out), .repeat = 1);
	int moved = 0;

	assert_int_equal(xdp_counters_read(&r->maps, before), 0);
	assert_int_equal(bpf_prog_test_run_opts(r->program, &o), 0);
	assert_int_equal(xdp_counters_read(&r->maps, after), 0);
	assert_int_equal(o.data_size_out, n);
	assert_memory_equal(out, data, n); /* it never writes to a packet */
	for (int i = 0; i < XDP_COUNTERS; i++)
		if (after[i] != before[i]) {
			*counter = i;
			moved += (int)(after[i] - before[i]);
		}
	if (moved != 1)
		*counter = -1;
	return (int)o.retval;
}

int xdp_rig_main(const struct CMUnitTest *tests, size_t n)
{
	int rc = sandbox_enter();

	if (rc) {
		print_message("skipped: private namespaces and bpffs need root: %s\n", strerror(-rc));
		return 77;
	}
	return _cmocka_run_group_tests("xdp", tests, n, rig_setup, rig_teardown);
}
