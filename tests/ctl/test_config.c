/* SPDX-License-Identifier: BSD-3-Clause
 * The operator's file: every refusal names its line, and what is accepted has the values it says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/config.h"
#include "control/config_check.h"
#include "control/ip_text.h"

#define PORT "ports:\n  - kind: memif\n    device: /tmp/m.sock\n    cores: [0]\n    ipv4: 10.0.0.1\n"

struct refusal {
	const char *what, *text, *line, *says;
};

static const struct refusal refusals[] = {
	{"an empty file", "", "t:1:", "mapping"},
	{"a list", "- a\n", "t:1:", "mapping"},
	{"broken YAML", PORT "https: [\n", "t:7:", "not YAML"},
	{"a tab as indent", "ports:\n\t- kind: memif\n", "t:2:", "not YAML"},
	{"not UTF-8", PORT "instance: a\xff\n", "t:6:", "not UTF-8"},
	{"overlong UTF-8", PORT "instance: \xc0\xaf\n", "t:6:", "not UTF-8"},
	{"an unknown top key", PORT "\nhttp: {}\n", "t:7:", "unknown key http"},
	{"an unknown section key", PORT "https:\n  listen: \"1.2.3.4:1\"\n  lisen: x\n", "t:8:",
		"unknown key https.lisen"},
	{"an unknown port key", PORT "    queue: 1\n", "t:6:", "unknown key ports[0].queue"},
	{"a duplicate key", PORT "limits:\n  slots: 3\n  bpf: preferred\n  slots: 4\n", "t:9:",
		"duplicate key limits.slots, first set on line 7"},
	{"a duplicate section", PORT "limits:\n  slots: 3\nlimits:\n  bpf: preferred\n", "t:8:",
		"duplicate key limits"},
	{"no ports", "instance: a\n", "t:1:", "ports: missing"},
	{"an empty list of ports", "instance: a\nports: []\n", "t:2:", "0 entries"},
	{"too many ports", "ports:\n- {}\n- {}\n- {}\n- {}\n- {}\n", "t:1:", "5 entries"},
	{"a port without a kind", "ports:\n  - device: x\n    cores: [0]\n", "t:2:",
		"ports[0].kind: missing"},
	{"an unknown kind", "ports:\n  - kind: afxdp\n", "t:2:", "af_xdp|memif|pmd"},
	{"words for a number", PORT "dataplane:\n  memory_mb: lots\n", "t:7:", "no whole number"},
	{"a quoted number", PORT "dataplane:\n  memory_mb: \"256\"\n", "t:7:", "no whole number"},
	{"a number with a unit", PORT "dataplane:\n  memory_mb: 256M\n", "t:7:", "no whole number"},
	{"a number too small", PORT "dataplane:\n  memory_mb: 1\n", "t:7:", "allowed 64 to"},
	{"a number too large", PORT "dataplane:\n  lanes: 9\n", "t:7:", "allowed 1 to 8"},
	{"a number far too large", PORT "dataplane:\n  lanes: 99999999999999999999\n", "t:7:",
		"no whole number"},
	{"a negative number", PORT "limits:\n  slots: -1\n", "t:7:", "out of range"},
	{"yes for true", PORT "dataplane:\n  attach: yes\n", "t:7:", "true or false"},
	{"a mapping for a value", PORT "dataplane:\n  backend:\n    a: b\n", "t:7:", "one value"},
	{"a value for a section", PORT "https: on\n", "t:6:", "https must be a mapping"},
	{"a value for a list", PORT "models:\n  preload: a.mrm\n", "t:7:", "must be a list"},
	{"a network without its length", PORT "https:\n  data_networks: [10.0.0.0]\n", "t:7:", "not a network"},
	{"a network too long", PORT "https:\n  data_networks: [\"10.0.0.0/24\", \"10.0.0.0/33\"]\n", "t:7:", "10.0.0.0/33"},
	{"sessions not a power of two", PORT "dataplane:\n  sessions: 1000\n", "t:7:", "power of two"},
	{"no such CPU", "ports:\n  - kind: memif\n    device: x\n    ipv4: 1.2.3.4\n    cores: [4000]\n",
		"t:5:", "no such CPU"},
	{"a CPU twice", "ports:\n  - kind: memif\n    device: x\n    ipv4: 1.2.3.4\n    queues: 2\n"
		"    cores:\n    - 0\n    - 0\n", "t:8:", "already has a worker"},
	{"fewer CPUs than queues", "ports:\n  - kind: memif\n    device: x\n    ipv4: 1.2.3.4\n"
		"    queues: 2\n    cores: [0]\n", "t:6:", "one CPU for each queue"},
	{"not an IPv4 address", "ports:\n  - kind: memif\n    device: x\n    cores: [0]\n"
		"    ipv4: 10.0.0.256\n", "t:5:", "not an IPv4 address: 10.0.0.256"},
	{"not an IPv6 address", PORT "    ipv6: fd00::g\n", "t:6:", "not an IPv6 address"},
	{"no address", "ports:\n  - kind: memif\n    device: x\n    cores: [0]\n", "t:2:",
		"needs an ipv4 or an ipv6"},
	{"two ports on one device", PORT "  - kind: memif\n    device: /tmp/m.sock\n    cores: [1]\n"
		"    ipv4: 10.0.0.2\n", "t:7:", "already is a port"},
	{"https on the data port's address", PORT "https:\n  listen: \"10.0.0.1:8443\"\n", "t:7:",
		"data port's address"},
	{"https without a port", PORT "https:\n  listen: localhost\n", "t:7:", "ADDRESS:PORT"},
	{"a certificate without its key", PORT "https:\n  certificate: /a.pem\n", "t:7:",
		"go together"},
	{"a relative run_dir", "run_dir: run\n" PORT, "t:1:", "absolute"},
	{"an instance with a slash", "instance: a/b\n" PORT, "t:1:", "a-z"},
	{"a long run_dir", "run_dir: /0123456789012345678901234567890123456789012345678901234567890"
		"12345678901234567890123456789\n" PORT, "t:1:", "allowed 1 to 80"},
	{"an alias", "instance: &a x\nlog_level: *a\n" PORT, "t:1:", "not used here"},
	{"a tag", "instance: !!str x\n" PORT, "t:1:", "not used here"},
	{"a second document", PORT "---\n" PORT, "t:6:", "second document"},
	{"deep nesting", "ports: [[[[[[[[[[]]]]]]]]]]\n", "t:1:", "nested"},
	{"an interface name too long", "ports:\n  - kind: af_xdp\n    device: abcdefghijklmnopqrst\n"
		"    cores: [0]\n    ipv4: 1.2.3.4\n", "t:3:", "interface name"},
};

static void every_refusal_names_its_line_and_cause(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *r = &refusals[i];
		struct config *c = (struct config *)(uintptr_t)1;
		struct error err = {0};
		int rc = config_parse(&c, "t", r->text, strlen(r->text), &err);

		if (rc >= 0 || c || strncmp(err.text, r->line, strlen(r->line)) ||
			!strstr(err.text, r->says))
			fail_msg("%s: rc %d, '%s', expected %s ... %s", r->what, rc, err.text,
				r->line, r->says);
	}
}

static void a_short_file_gets_every_default(void **state)
{
	struct config *c;
	struct error err = {0};

	(void)state;
	assert_int_equal(config_parse(&c, "t", PORT, strlen(PORT), &err), 0);
	assert_string_equal(c->run_dir, "/run/millrace");
	assert_int_equal(c->ports_count, 1);
	assert_int_equal(c->ports[0].udp_port, 4433);
	assert_string_equal(c->ports[0].neighbours, "dataplane");
	assert_int_equal(c->dataplane.service_core, -1);
	assert_int_equal(c->dataplane.hang_ms, 2000);
	assert_false(c->dataplane.attach);
	assert_int_equal(c->https.session_ttl_s, 3600);
	assert_int_equal(c->models.preload_count, 0);
	config_free(c);
}

static void what_the_file_says_is_what_the_dataplane_gets(void **state)
{
	static const char text[] = "instance: two\nports:\n  - kind: memif\n    device: /m\n"
		"    cores: [0]\n    ipv4: 10.1.2.3\n    ipv6: \"fd00::5\"\n    udp_port: 9\n"
		"    busy_budget: 0\ndataplane:\n  huge_pages: preferred\n  backend: scalar\n"
		"  sessions: 64\n  lanes: 8\n  refuse_not_finite: true\nmodels:\n"
		"  preload: [/a.mrm, /b.mrm]\n";
	static const uint8_t v4[16] = {[10] = 0xff, 0xff, 10, 1, 2, 3};
	static const uint8_t v6[16] = {0xfd, [15] = 5};
	struct config *c;
	struct dp_config d;
	struct error err = {0};

	(void)state;
	assert_int_equal(config_parse(&c, "t", text, sizeof(text) - 1, &err), 0);
	assert_string_equal(c->models.preload[1], "/b.mrm");
	assert_int_equal(config_to_dataplane(c, true, &d, &err), 0);
	assert_int_equal(d.magic, DP_CONFIG_MAGIC);
	assert_string_equal(d.instance, "two");
	assert_int_equal(d.ports[0].kind, DP_PORT_MEMIF);
	assert_memory_equal(d.ports[0].ipv4.bytes, v4, 16);
	assert_memory_equal(d.ports[0].ipv6.bytes, v6, 16);
	assert_int_equal(d.ports[0].udp_port, 9);
	assert_int_equal(d.ports[0].busy_budget, 0);
	assert_int_equal(d.service_core, UINT32_MAX);
	assert_int_equal(d.huge_pages, 0);
	assert_int_equal(d.backend, DP_BACKEND_SCALAR);
	assert_int_equal(d.lanes, 8);
	assert_int_equal(d.refuse_not_finite, 1);
	assert_int_equal(d.limits_fallback, 1);
	config_free(c);
}

static void the_environment_moves_the_directories(void **state)
{
	struct config *c;
	struct error err = {0};

	(void)state;
	setenv("MILLRACE_RUN", "/tmp/elsewhere", 1);
	assert_int_equal(config_parse(&c, "t", PORT, strlen(PORT), &err), 0);
	unsetenv("MILLRACE_RUN");
	assert_string_equal(c->run_dir, "/tmp/elsewhere");
	config_free(c);
}

static void the_effective_configuration_is_complete_json(void **state)
{
	struct config *c;
	struct error err = {0};
	json_t *j;

	(void)state;
	assert_int_equal(config_parse(&c, "t", PORT, strlen(PORT), &err), 0);
	j = (json_t *)config_to_json(c);
	assert_non_null(j);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "dataplane"),
		"sessions")), 4096);
	assert_string_equal(json_string_value(json_object_get(json_array_get(
		json_object_get(j, "ports"), 0), "ipv4")), "10.0.0.1");
	json_decref(j);
	config_free(c);
}

static void the_example_file_is_accepted(void **state)
{
	struct config *c;
	struct error err = {0};

	(void)state;
	if (config_load(&c, "firmware-config/millrace.yaml", &err))
		fail_msg("%s", err.text);
	config_free(c);
}

static void a_network_holds_its_addresses_and_no_others(void **state)
{
	static const struct {
		const char *ip, *network;
		int in;
	} cases[] = {{"10.77.0.255", "10.77.0.0/24", 1}, {"10.77.1.0", "10.77.0.0/24", 0},
		{"10.77.0.9", "10.77.0.8/31", 1}, {"10.77.0.10", "10.77.0.8/31", 0},
		{"1.2.3.4", "0.0.0.0/0", 1}, {"fd77::1", "0.0.0.0/0", 0}, {"fd77::1", "fd77::/64", 1},
		{"fd77:0:0:1::1", "fd77::/64", 0}, {"fd77::1", "fd77::1/128", 1}, {"1.2.3.4", "1.2.3.4/32", 1},
		{"1.2.3.4", "1.2.3.4", -EINVAL}, {"1.2.3.4", "1.2.3.4/", -EINVAL},
		{"1.2.3.4", "1.2.3.4/+8", -EINVAL}, {"fd77::1", "fd77::/129", -EINVAL}};
	struct ip_addr ip;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(ip_parse(&ip, cases[i].ip), 0);
		if (ip_in_network(&ip, cases[i].network) != cases[i].in)
			fail_msg("%s in %s", cases[i].ip, cases[i].network);
	}
}

static void a_missing_file_and_a_directory_are_refused_by_name(void **state)
{
	struct config *c;
	struct error err = {0};

	(void)state;
	assert_int_equal(config_load(&c, "/nonexistent/a.yaml", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/a.yaml"));
	assert_int_equal(config_load(&c, "/tmp", &err), -EINVAL);
}

static void every_prefix_of_the_example_is_survived(void **state)
{
	char text[8192];
	FILE *f = fopen("firmware-config/millrace.yaml", "re");
	size_t n = f ? fread(text, 1, sizeof(text), f) : 0;

	(void)state;
	assert_true(n > 100);
	fclose(f);
	for (size_t i = 0; i < n; i++) {
		char *copy = malloc(i + 1); /* exact size: a sanitizer sees every byte too far */
		struct config *c;

		memcpy(copy, text, i);
		if (!config_parse(&c, "t", copy, i, NULL))
			config_free(c);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_refusal_names_its_line_and_cause),
		cmocka_unit_test(a_short_file_gets_every_default),
		cmocka_unit_test(what_the_file_says_is_what_the_dataplane_gets),
		cmocka_unit_test(the_environment_moves_the_directories),
		cmocka_unit_test(the_effective_configuration_is_complete_json),
		cmocka_unit_test(the_example_file_is_accepted),
		cmocka_unit_test(a_network_holds_its_addresses_and_no_others),
		cmocka_unit_test(a_missing_file_and_a_directory_are_refused_by_name),
		cmocka_unit_test(every_prefix_of_the_example_is_survived),
	};

	unsetenv("MILLRACE_RUN");
	unsetenv("MILLRACE_STATE");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
