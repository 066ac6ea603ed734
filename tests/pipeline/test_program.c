/* SPDX-License-Identifier: BSD-3-Clause
 * The real program on a real interface: started with its configuration on fd 3, fed over
 * dataplane.sock, asked by frames on the other end of a veth pair, killed, and started again on the
 * same table.
 *
 *   this test (as control) ── dataplane.sock, memfds ──▶ millrace-dataplane
 *   this test (as client) ── AF_PACKET on "cl0" ═ veth ═ "dp0", XDP ──▶ AF_XDP ──▶ the worker
 *
 * Everything happens in namespaces of its own. Skipped, with the reason, where those are not
 * allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_packet.h>
#include <math.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/config.h"
#include "abi/gateway.h"
#include "abi/link.h"
#include "abi/mailbox.h"
#include "base/clock.h"
#include "base/fd.h"
#include "ebpf/xdp_load.h"
#include "rig.h"
#include "tests/ebpf/sandbox.h"

enum { WAIT_MS = 10000 };

struct stage {
	char dir[64];
	struct dp_config config;
	pid_t pid;
	int link, packet;
	struct session_table *table;
	int sessions_fd;
	struct xdp_maps maps;
	struct limits_view *view;
	struct limit_slot *limits; /* of view */
	int artifact_fd;
	struct stats_region *stats;
	struct mailbox *mailbox;
	uint64_t seq;
};

static const float sample[RIG_IN] = {1.0f, -2.0f, 0.5f, 3.0f};

static void shell(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

static const char *program_path(void)
{
	static char path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);

	assert_true(n > 0);
	path[n] = 0;
	snprintf(strrchr(path, '/'), 32, "/../bin/millrace-dataplane");
	return path;
}

static void configure(struct stage *t)
{
	struct dp_config *c = &t->config;
	struct dp_port_config *p = &c->ports[0];

	*c = (struct dp_config){.magic = DP_CONFIG_MAGIC, .version = DP_CONFIG_VERSION,
		.bytes = sizeof(*c), .n_ports = 1, .service_core = UINT32_MAX, .memory_mb = 256,
		.mbufs = 8192, .burst = 32, .sessions = RIG_CAPACITY, .lanes = RIG_LANES,
		.slice_us = 100, .log_level = 1};
	snprintf(c->instance, sizeof(c->instance), "t-program");
	snprintf(c->run_dir, sizeof(c->run_dir), "%s", t->dir);
	*p = (struct dp_port_config){.kind = DP_PORT_AF_XDP, .queues = 1, .udp_port = RIG_PORT,
		.ipv4 = {{[10] = 0xff, 0xff, 10, 77, 0, 1}}, .ipv6 = {{0xfd, 0x77, [15] = 1}}};
	p->cores[0] = 1;
	snprintf(p->device, sizeof(p->device), "dp0");
	snprintf(p->xdp_object, sizeof(p->xdp_object), "%s", sandbox_object());
}

static void network(struct stage *t)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	shell("ip link add dp0 address 02:00:00:00:00:01 type veth peer name cl0 address "
	      "02:00:00:00:00:02");
	shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set dp0 up; ip link set cl0 "
	      "up");
	shell("ethtool -K dp0 tx off >/dev/null; ethtool -K cl0 tx off >/dev/null");
	t->packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	at.sll_ifindex = (int)if_nametoindex("cl0");
	assert_int_equal(bind(t->packet, (struct sockaddr *)&at, sizeof(at)), 0);
}

/* ---- as control ---- */

/* In a sanitizer build: libbpf has no frame pointers, and suppressions go by the driver's frame. */
static void exact_leak_stacks(void)
{
	const char *have = getenv("LSAN_OPTIONS");
	char options[PATH_MAX];

	snprintf(options, sizeof(options), "%s%sfast_unwind_on_malloc=0", have ? have : "",
		have ? ":" : "");
	setenv("LSAN_OPTIONS", options, 1);
}

static void start(struct stage *t, bool over_the_socket)
{
	struct error err = {0};
	int fd = fd_sealed_copy("config", &t->config, sizeof(t->config), &err);
	char path[128];

	t->pid = fork();
	assert_true(t->pid >= 0);
	if (t->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		setenv("MILLRACE_RUN", t->dir, 1);
		exact_leak_stacks();
		if (over_the_socket)
			close(3);
		else
			dup2(fcntl(fd, F_DUPFD, 10), 3);
		execl(program_path(), "millrace-dataplane", NULL);
		_exit(127);
	}
	snprintf(path, sizeof(path), "%s/dataplane.sock", t->dir);
	for (int i = 0; (t->link = fd_unix_connect(path, SOCK_SEQPACKET, &err)) < 0; i++) {
		if (i > WAIT_MS)
			fail_msg("%s", err.text);
		usleep(1000);
	}
	if (over_the_socket) {
		struct link_message m = {
			.magic = LINK_MAGIC, .version = LINK_VERSION, .kind = LINK_HELLO};

		assert_int_equal(fd_send(t->link, &m, sizeof(m), NULL, 0), 0);
		m.kind = LINK_OFFER;
		m.fd_kind = LINK_FD_CONFIG;
		assert_int_equal(fd_send(t->link, &m, sizeof(m), &fd, 1), 0);
	}
	close(fd);
}

static void offer(struct stage *t, enum link_fd kind, int fd, uint32_t slot)
{
	struct link_message m = {.magic = LINK_MAGIC, .version = LINK_VERSION, .kind = LINK_OFFER,
		.fd_kind = kind, .artifact = {.model_index = 0, .model_slot = slot, .number = 1}};

	assert_int_equal(fd_send(t->link, &m, sizeof(m), &fd, 1), 0);
}

/* Receive until OFFERED; keep statistics and mailbox. Returns the number of offers. */
static int receive_offers(struct stage *t)
{
	struct link_message m;
	int n = 0;

	for (;;) {
		int fds[FD_MAX_PASSED];
		struct pollfd p = {t->link, POLLIN, 0};
		struct error err = {0};
		size_t n_fds, bytes;
		void *map = NULL;

		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		assert_int_equal(fd_recv(t->link, &m, sizeof(m), fds, &n_fds), sizeof(m));
		if (m.kind == LINK_OFFERED)
			return n;
		if (m.kind != LINK_OFFER)
			continue;
		n++;
		assert_int_equal(n_fds, 1);
		if (m.fd_kind == LINK_FD_STATS) {
			assert_int_equal(
				fd_region_map(fds[0], true, false, &map, &bytes, &err), -EACCES);
			assert_int_equal(
				fd_region_map(fds[0], false, false, &map, &bytes, &err), 0);
			t->stats = map;
		} else if (m.fd_kind == LINK_FD_MAILBOX) {
			assert_int_equal(fd_region_map(fds[0], true, false, &map, &bytes, &err), 0);
			t->mailbox = map;
		}
		close(fds[0]);
	}
}

static void hello(struct stage *t)
{
	struct link_message m = {.magic = LINK_MAGIC, .version = LINK_VERSION, .kind = LINK_HELLO};

	assert_int_equal(fd_send(t->link, &m, sizeof(m), NULL, 0), 0);
}

/* Wait for one event of `kind`; skips others. */
static struct mailbox_message event(struct stage *t, enum mailbox_event kind)
{
	struct mailbox_message m;

	for (int i = 0; i < WAIT_MS; i++) {
		while (mailbox_get(&t->mailbox->to_control, &m))
			if (m.kind == kind)
				return m;
		usleep(1000);
	}
	fail_msg("no event %d", kind);
	return m;
}

static int command(struct stage *t, enum mailbox_command kind, uint64_t a, uint64_t b)
{
	struct mailbox_message m = {.seq = ++t->seq, .kind = kind, .a = a, .b = b};

	assert_int_equal(mailbox_put(&t->mailbox->to_dataplane, &m), 1);
	m = event(t, EVENT_ACK);
	assert_int_equal(m.seq, t->seq);
	return m.result;
}

static void attach_and_supply(struct stage *t, uint32_t model_slot)
{
	receive_offers(t);
	offer(t, LINK_FD_SESSIONS, t->sessions_fd, 0);
	offer(t, LINK_FD_LIMITS, t->maps.limits, 0);
	offer(t, LINK_FD_ARTIFACT, t->artifact_fd, model_slot);
	event(t, EVENT_READY);
	if (model_slot == LINK_SLOT_NONE) {
		assert_int_equal(command(t, CMD_MODEL_STAGE, 0, 1), 0);
		assert_int_equal(command(t, CMD_MODEL_ACTIVATE, 0, 0), 0);
	}
}

static void licence(struct stage *t)
{
	assert_int_equal(command(t, CMD_LICENCE, UINT64_MAX, 0), 0);
}

/* ---- as client ---- */

/* Send one request and wait for a frame that comes back, into f. Its length, 0 = none came. */
static size_t exchange(struct stage *t, struct rig_client *c, uint8_t *f, int wait_ms)
{
	size_t n = rig_rows(c, f, "alpha", sample, 1);

	assert_int_equal(send(t->packet, f, n, 0), n);
	for (;;) {
		struct pollfd p = {t->packet, POLLIN, 0};
		struct sockaddr_ll from;
		socklen_t len = sizeof(from);
		ssize_t bytes;

		if (poll(&p, 1, wait_ms) != 1)
			return 0;
		bytes = recvfrom(t->packet, f, RIG_FRAME, 0, (struct sockaddr *)&from, &len);
		if (from.sll_pkttype != PACKET_OUTGOING && bytes >= 60)
			return (size_t)bytes;
	}
}

static void ask(struct stage *t, struct rig_client *c)
{
	struct rig_reply got;
	float want[RIG_OUT], *y = (float *)got.rows;
	uint8_t f[RIG_FRAME];
	size_t n = exchange(t, c, f, 3000);

	if (!n)
		fail_msg("no reply");
	assert_true(rig_open(c, f, n, &got));
	assert_int_equal(got.reply.status, WIRE_RESULT);
	rig_expect(sample, 1.0f, want);
	for (int j = 0; j < RIG_OUT; j++)
		assert_true(fabsf(y[j] - want[j]) < 1e-4f);
}

static void supplies(struct stage *t)
{
	struct error err = {0};
	struct xdp_params params = {.udp_port = RIG_PORT, .neighbour_route = XDP_TO_DATAPLANE,
		.other_route = XDP_TO_KERNEL, .enabled = 1};

	if (xdp_maps_open(&t->maps, XDP_BPFFS_DIR, &err) ||
		limits_view_open(&t->view, t->maps.limits, false, &err))
		fail_msg("%s", err.text);
	t->limits = t->view->slots;
	assert_int_equal(xdp_params_set(&t->maps, &params), 0);
	t->limits[0].interval_ticks = (NS_PER_S << LIMITS_TICK_SHIFT) / 1000000;
	t->limits[0].burst_ticks = t->limits[0].interval_ticks * 1000;
	t->limits[0].refused_interval_ticks = (NS_PER_S << LIMITS_TICK_SHIFT) / 100;
	t->limits[0].model_mask = 1;
	t->limits[0].flags = LIMIT_ACTIVE;
	t->sessions_fd = rig_table(&t->table, RIG_CAPACITY);
	t->artifact_fd = rig_artifact("alpha", 1, 1.0f, 1, 64);
}

static void session(struct stage *t, struct rig_client *c, uint32_t key_id)
{
	struct xdp_session x = {.subscriber = 0};

	rig_table_session(t->table, clock_now_ns(), c, key_id, 0, false);
	x.source = c->source;
	assert_int_equal(xdp_session_set(&t->maps, key_id, &x), 0);
	assert_int_equal(command(t, CMD_SESSION_ADD, c->slot, 0), 0);
}

/* A gateway in which a request waits since before the crash. *fd is to be offered. */
static struct gateway_region *gateway_with_a_request(int *fd)
{
	struct wire_request q = {.request_id = 5, .model_id = wire_model_id("alpha"), .dtype = WIRE_F32,
		.segment_count = 1, .rows = 1};
	struct gateway_region *g;
	struct error err = {0};
	void *map;

	*fd = fd_region_new("gateway", sizeof(*g), false, &map, &err);
	assert_true(*fd >= 0);
	g = map;
	g->header.magic = GATEWAY_MAGIC;
	g->header.version = GATEWAY_VERSION;
	g->header.slots = GATEWAY_SLOTS;
	g->header.total_bytes = sizeof(*g);
	g->header.submitted = 1;
	memcpy(g->slots[0].request, &q, sizeof(q));
	memcpy(g->slots[0].request + sizeof(q), sample, sizeof(sample));
	g->slots[0].request_bytes = sizeof(q) + sizeof(sample);
	g->slots[0].state = GATEWAY_SUBMITTED;
	return g;
}

static void expect_gateway_result(struct gateway_region *g)
{
	struct wire_reply reply;

	for (int i = 0; __atomic_load_n(&g->slots[0].state, __ATOMIC_ACQUIRE) != GATEWAY_ANSWERED; i++) {
		assert_true(i < WAIT_MS);
		usleep(1000);
	}
	memcpy(&reply, g->slots[0].reply, sizeof(reply));
	assert_int_equal(reply.status, WIRE_RESULT);
}

static void detach_xdp(void)
{
	shell("ip link set dev dp0 xdp off"); /* the supervisor's work after a crash */
}

/* Start with `config` on fd 3 and collect what it says. Returns the exit status. */
static int run_to_the_end(const struct dp_config *config, const char *dir, char *said, size_t size)
{
	int out[2], status, fd = fd_sealed_copy("config", config, sizeof(*config), NULL);
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		setenv("MILLRACE_RUN", dir, 1);
		dup2(out[1], 2);
		dup2(fcntl(fd, F_DUPFD, 10), 3); /* fd may be 3 itself, and close-on-exec */
		execl(program_path(), "millrace-dataplane", NULL);
		_exit(127);
	}
	close(out[1]);
	close(fd);
	for (size_t at = 0; (n = read(out[0], said + at, size - 1 - at)) > 0; at += (size_t)n)
		said[at + (size_t)n] = 0;
	close(out[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_program_serves_survives_kill_9_and_stops_when_told(void **state)
{
	struct stage t = {.dir = "/tmp/mr-t-program-XXXXXX"};
	struct rig_client c;
	uint64_t began_ns, admitted;
	struct gateway_region *gateway;
	uint8_t f[RIG_FRAME];
	char said[4096] = "";
	int status, gateway_fd;

	(void)state;
	assert_non_null(mkdtemp(t.dir));
	configure(&t);
	network(&t);
	supplies(&t);
	start(&t, true);
	attach_and_supply(&t, LINK_SLOT_NONE);
	licence(&t);
	assert_int_equal(t.stats->header.ports[0].xdp_mode, 1);
	session(&t, &c, 0x1001);
	for (int i = 0; i < 200; i++)
		ask(&t, &c);
	admitted = t.limits[0].units_admitted;
	assert_int_equal(admitted, 200);

	/* A second one in the same directory goes away, and the first is still ours. */
	assert_int_equal(run_to_the_end(&t.config, t.dir, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "another millrace-dataplane runs in"));
	licence(&t);
	ask(&t, &c);

	close(t.link); /* control goes away and comes back: everything is offered to it */
	ask(&t, &c);
	{
		struct error err = {0};
		char path[128];

		snprintf(path, sizeof(path), "%s/dataplane.sock", t.dir);
		t.link = fd_unix_connect(path, SOCK_SEQPACKET, &err);
		hello(&t);
		assert_int_equal(receive_offers(&t), 5);
		event(&t, EVENT_READY);
	}
	kill(t.pid, SIGKILL);
	waitpid(t.pid, &status, 0);
	close(t.link);
	detach_xdp();
	began_ns = clock_now_ns();
	start(&t, false);
	hello(&t);
	gateway = gateway_with_a_request(&gateway_fd);
	offer(&t, LINK_FD_GATEWAY, gateway_fd, 0);
	attach_and_supply(&t, LINK_SLOT_CURRENT);
	/* Not everything is told yet: better no answer, and a retry, than NOT_LICENSED. */
	assert_int_equal(exchange(&t, &c, f, 100), 0);
	assert_int_equal(gateway->slots[0].state, GATEWAY_SUBMITTED);
	licence(&t);
	expect_gateway_result(gateway);
	ask(&t, &c); /* same session, no enrolment */
	print_message("started and answering again in %.0f ms\n",
		(double)(clock_now_ns() - began_ns) / 1e6);
	assert_int_equal(t.table->generation, 2);
	assert_true(c.replies > SESSION_RESERVE); /* send counters begin behind the reserved ones */
	assert_int_equal(command(&t, CMD_SESSION_REMOVE, c.slot, 0x1001 * 10ull), 0);
	assert_int_equal(command(&t, CMD_MODEL_UNLOAD, 0, 0), 0);
	assert_int_equal(event(&t, EVENT_MODEL_RELEASED).b, 1);
	assert_int_equal(command(&t, CMD_STOP, 0, 0), 0);
	waitpid(t.pid, &status, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	limits_view_close(t.view);
	xdp_maps_close(&t.maps);
	munmap(gateway, sizeof(*gateway));
	close(gateway_fd);
	rmdir(t.dir);
}

static void a_start_that_cannot_work_ends_with_one_sentence_that_says_what_to_do(void **state)
{
	struct stage t = {.dir = "/tmp/mr-t-program-XXXXXX"};
	char said[4096] = "";

	(void)state;
	assert_non_null(mkdtemp(t.dir));
	configure(&t);
	t.config.huge_pages = 1;
	t.config.memory_mb = 1u << 20;
	assert_int_equal(run_to_the_end(&t.config, t.dir, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "> /proc/sys/vm/nr_hugepages"));
	t.config.huge_pages = 0;
	t.config.memory_mb = 256;
	snprintf(t.config.ports[0].device, sizeof(t.config.ports[0].device), "nothere");
	assert_int_equal(run_to_the_end(&t.config, t.dir, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "port nothere"));
	t.config.ports[0].rx_descriptors = 65537; /* would be 1 in DPDK's 16 bits */
	assert_int_equal(run_to_the_end(&t.config, t.dir, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "65537 and 0 descriptors"));
	t.config.ports[0].rx_descriptors = 0;
	t.config.ports[0].queues = 2;
	t.config.mbufs = 4096;
	assert_int_equal(run_to_the_end(&t.config, t.dir, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "4096 packet buffers are too few for 2 queues"));
	t.config.mbufs = 8192;
	t.config.ports[0].cores[1] = t.config.ports[0].cores[0];
	assert_int_equal(run_to_the_end(&t.config, t.dir, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "CPU 1 has two workers"));
	t.config.version = 99;
	assert_int_equal(run_to_the_end(&t.config, t.dir, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "version 99"));
	rmdir(t.dir);
}

static void sigterm_is_a_clean_end_also_while_it_waits(void **state)
{
	struct stage t = {.dir = "/tmp/mr-t-program-XXXXXX"};
	struct error err = {0};
	char path[128];
	int status;

	(void)state;
	assert_non_null(mkdtemp(t.dir));
	t.pid = fork();
	if (t.pid == 0) {
		setenv("MILLRACE_RUN", t.dir, 1);
		close(3);
		execl(program_path(), "millrace-dataplane", NULL);
		_exit(127);
	}
	snprintf(path, sizeof(path), "%s/dataplane.sock", t.dir);
	for (int i = 0; (t.link = fd_unix_connect(path, SOCK_SEQPACKET, &err)) < 0 && i < WAIT_MS; i++)
		usleep(1000);
	usleep(50000);
	kill(t.pid, SIGTERM);
	waitpid(t.pid, &status, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(t.link);
	assert_int_equal(rmdir(t.dir), 0); /* its socket is gone */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_start_that_cannot_work_ends_with_one_sentence_that_says_what_to_do),
		cmocka_unit_test(sigterm_is_a_clean_end_also_while_it_waits),
		cmocka_unit_test(the_program_serves_survives_kill_9_and_stops_when_told),
	};
	int rc = sandbox_enter();

	if (rc) {
		print_message("skipped: no private namespaces or BPF here: %s\n", strerror(-rc));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
