/* SPDX-License-Identifier: BSD-3-Clause
 * The option table: see config_options.h.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "abi/session.h"
#include "abi/wire.h"
#include "control/config_options.h"

const char *const config_section_names[SECTIONS] = {"", "ports", "dataplane", "limits", "https",
	"license", "models"};

#define AT(m) .offset = offsetof(struct config, m)
#define COUNT(m) .count_offset = offsetof(struct config, m##_count)
#define PORT(m) .offset = offsetof(struct config_port, m)
#define PORT_COUNT(m) .count_offset = offsetof(struct config_port, m##_count)

/* clang-format off */
const struct option config_options[] = {
	{SECTION_TOP, "instance", OPTION_STRING, AT(instance), .min = 1, .max = 31, .fallback = "millrace"},
	{SECTION_TOP, "run_dir", OPTION_STRING, AT(run_dir), .min = 1, .max = 80, .fallback = "/run/millrace"},
	{SECTION_TOP, "state_dir", OPTION_STRING, AT(state_dir), .min = 1, .max = 200, .fallback = "/var/lib/millrace"},
	{SECTION_TOP, "log_level", OPTION_STRING, AT(log_level), .max = 8, .fallback = "info", .choices = "error|warn|info|debug"},

	{SECTION_PORTS, "kind", OPTION_STRING, PORT(kind), .max = 16, .choices = "af_xdp|memif|pmd"},
	{SECTION_PORTS, "device", OPTION_STRING, PORT(device), .min = 1, .max = 63},
	{SECTION_PORTS, "args", OPTION_STRING, PORT(args), .max = 191, .fallback = ""},
	{SECTION_PORTS, "queues", OPTION_U32, PORT(queues), .min = 1, .max = DP_MAX_WORKERS, .fallback = "1"},
	{SECTION_PORTS, "cores", OPTION_I32S, PORT(cores), PORT_COUNT(cores), .min = 1, .max = DP_MAX_WORKERS},
	{SECTION_PORTS, "ipv4", OPTION_STRING, PORT(ipv4), .max = 15, .fallback = ""},
	{SECTION_PORTS, "ipv6", OPTION_STRING, PORT(ipv6), .max = 45, .fallback = ""},
	{SECTION_PORTS, "udp_port", OPTION_U32, PORT(udp_port), .min = 1, .max = 65535, .fallback = "4433"},
	{SECTION_PORTS, "mtu", OPTION_U32, PORT(mtu), .max = 9000, .fallback = "0"},
	{SECTION_PORTS, "busy_budget", OPTION_U32, PORT(busy_budget), .max = 1024, .fallback = "64"},
	{SECTION_PORTS, "xdp_generic_allowed", OPTION_BOOL, PORT(xdp_generic_allowed), .fallback = "false"},
	{SECTION_PORTS, "neighbours", OPTION_STRING, PORT(neighbours), .max = 16, .fallback = "dataplane", .choices = "dataplane|kernel"},
	{SECTION_PORTS, "other_traffic", OPTION_STRING, PORT(other_traffic), .max = 16, .fallback = "drop", .choices = "kernel|drop"},

	{SECTION_DATAPLANE, "program", OPTION_STRING, AT(dataplane.program), .max = 200, .fallback = ""},
	{SECTION_DATAPLANE, "xdp_object", OPTION_STRING, AT(dataplane.xdp_object), .max = 159, .fallback = ""},
	{SECTION_DATAPLANE, "service_core", OPTION_I32, AT(dataplane.service_core), .min = -1, .max = 4095, .fallback = "-1"},
	{SECTION_DATAPLANE, "memory_mb", OPTION_U32, AT(dataplane.memory_mb), .min = 64, .max = 1 << 20, .fallback = "256"},
	{SECTION_DATAPLANE, "huge_pages", OPTION_STRING, AT(dataplane.huge_pages), .max = 16, .fallback = "required", .choices = "required|preferred|off"},
	{SECTION_DATAPLANE, "sessions", OPTION_U32, AT(dataplane.sessions), .min = SESSION_MIN_CAPACITY, .max = SESSION_MAX_CAPACITY, .fallback = "4096"},
	{SECTION_DATAPLANE, "lanes", OPTION_U32, AT(dataplane.lanes), .min = 1, .max = WIRE_MAX_LANES, .fallback = "1"},
	{SECTION_DATAPLANE, "backend", OPTION_STRING, AT(dataplane.backend), .max = 16, .fallback = "auto", .choices = "auto|native|openblas|scalar"},
	{SECTION_DATAPLANE, "slice_us", OPTION_U32, AT(dataplane.slice_us), .min = 1, .max = 1000000, .fallback = "200"},
	{SECTION_DATAPLANE, "queue_us", OPTION_U32, AT(dataplane.queue_us), .min = 1, .max = DP_QUEUE_US_MAX, .fallback = "20000"},
	{SECTION_DATAPLANE, "poll", OPTION_STRING, AT(dataplane.poll), .max = 16, .fallback = "busy", .choices = "busy|adaptive"},
	{SECTION_DATAPLANE, "engine_cores", OPTION_I32S, AT(dataplane.engine_cores), COUNT(dataplane.engine_cores), .max = DP_MAX_ENGINES, .fallback = ""},
	{SECTION_DATAPLANE, "refuse_not_finite", OPTION_BOOL, AT(dataplane.refuse_not_finite), .fallback = "false"},
	{SECTION_DATAPLANE, "wide_buffers", OPTION_U32, AT(dataplane.wide_buffers), .min = 64, .max = 16384, .fallback = "256"},
	{SECTION_DATAPLANE, "reply_store_mb", OPTION_U32, AT(dataplane.reply_store_mb), .max = 65536, .fallback = "16"},
	{SECTION_DATAPLANE, "reply_store_over_us", OPTION_U32, AT(dataplane.reply_store_over_us), .min = 1, .max = 1000000, .fallback = "5"},
	{SECTION_DATAPLANE, "hang_ms", OPTION_U32, AT(dataplane.hang_ms), .min = 100, .max = 600000, .fallback = "2000"},
	{SECTION_DATAPLANE, "attach", OPTION_BOOL, AT(dataplane.attach), .fallback = "false"},

	{SECTION_LIMITS, "slots", OPTION_U32, AT(limits.slots), .min = 1, .max = LIMITS_MAX_SLOTS, .fallback = "1024"},
	{SECTION_LIMITS, "bpf", OPTION_STRING, AT(limits.bpf), .max = 16, .fallback = "required", .choices = "required|preferred"},

	{SECTION_HTTPS, "listen", OPTION_STRING, AT(https.listen), .min = 3, .max = 63, .fallback = "0.0.0.0:8443"},
	{SECTION_HTTPS, "certificate", OPTION_STRING, AT(https.certificate), .max = 200, .fallback = ""},
	{SECTION_HTTPS, "key", OPTION_STRING, AT(https.key), .max = 200, .fallback = ""},
	{SECTION_HTTPS, "session_ttl_s", OPTION_U32, AT(https.session_ttl_s), .min = 1, .max = 86400, .fallback = "3600"},
	{SECTION_HTTPS, "sessions_per_subscriber", OPTION_U32, AT(https.sessions_per_subscriber), .min = 1, .max = SESSION_MAX_CAPACITY, .fallback = "16"},
	{SECTION_HTTPS, "data_networks", OPTION_STRINGS, AT(https.data_networks), COUNT(https.data_networks), .max = CONFIG_MAX_LIST, .fallback = ""},
	{SECTION_HTTPS, "operator_networks", OPTION_STRINGS, AT(https.operator_networks), COUNT(https.operator_networks), .max = CONFIG_MAX_LIST, .fallback = ""},

	{SECTION_LICENSE, "file", OPTION_STRING, AT(license.file), .max = 200, .fallback = ""},
	{SECTION_LICENSE, "keys", OPTION_STRINGS, AT(license.keys), COUNT(license.keys), .max = CONFIG_MAX_LIST, .fallback = ""},

	{SECTION_MODELS, "require_signature", OPTION_BOOL, AT(models.require_signature), .fallback = "false"},
	{SECTION_MODELS, "trusted_keys", OPTION_STRINGS, AT(models.trusted_keys), COUNT(models.trusted_keys), .max = 8, .fallback = ""},
	{SECTION_MODELS, "preload", OPTION_STRINGS, AT(models.preload), COUNT(models.preload), .max = CONFIG_MAX_LIST, .fallback = ""},
};
/* clang-format on */
const uint32_t config_options_count = sizeof(config_options) / sizeof(config_options[0]);

void *option_field(struct config *c, const struct option *o, uint32_t port)
{
	char *base = o->section == SECTION_PORTS ? (char *)&c->ports[port] : (char *)c;

	return base + o->offset;
}

uint32_t *option_count(struct config *c, const struct option *o, uint32_t port)
{
	char *base = o->section == SECTION_PORTS ? (char *)&c->ports[port] : (char *)c;

	return (uint32_t *)(void *)(base + o->count_offset);
}

void option_path(const struct option *o, uint32_t port, char *out, uint32_t n)
{
	if (o->section == SECTION_TOP)
		snprintf(out, n, "%s", o->key);
	else if (o->section == SECTION_PORTS)
		snprintf(out, n, "ports[%u].%s", port, o->key);
	else
		snprintf(out, n, "%s.%s", config_section_names[o->section], o->key);
}

bool option_choice(const char *choices, const char *value)
{
	size_t n = strlen(value);

	for (const char *p = choices; p; p = strchr(p, '|')) {
		p += *p == '|';
		if (n && !strncmp(p, value, n) && (p[n] == '|' || !p[n]))
			return true;
	}
	return false;
}
