/* SPDX-License-Identifier: BSD-3-Clause
 * The checked configuration for others: the dataplane's struct, and JSON for people and tests.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "control/config_check.h"
#include "control/config_options.h"
#include "control/paths.h"

static int copy_text(char *out, size_t n, const char *value, const char *what, struct error *err)
{
	if (strlen(value) >= n)
		return error_set(err, -EINVAL, "%s: longer than %zu bytes: %s", what, n - 1, value);
	memset(out, 0, n);
	memcpy(out, value, strlen(value));
	return 0;
}

static uint32_t kind_of(const char *kind)
{
	if (!strcmp(kind, "af_xdp"))
		return DP_PORT_AF_XDP;
	return strcmp(kind, "memif") ? DP_PORT_PMD : DP_PORT_MEMIF;
}

static uint32_t backend_of(const char *name)
{
	static const char *const names[] = {"auto", "native", "openblas", "scalar"};

	for (uint32_t i = 0; i < 4; i++)
		if (!strcmp(names[i], name))
			return i;
	return DP_BACKEND_AUTO;
}

uint32_t config_log_level(const struct config *c)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	for (uint32_t i = 0; i < 4; i++)
		if (!strcmp(names[i], c->log_level))
			return i;
	return LOG_LEVEL_INFO;
}

static int port_to_dataplane(const struct config *c, const struct config_port *in,
	struct dp_port_config *out, struct error *err)
{
	char object[PATH_MAX] = "";
	int rc;

	if (!strcmp(in->kind, "af_xdp"))
		path_of_program(object, sizeof(object), c->dataplane.xdp_object, "xdp_filter.bpf.o");
	rc = copy_text(out->device, sizeof(out->device), in->device, "device", err);
	if (!rc)
		rc = copy_text(out->args, sizeof(out->args), in->args, "args", err);
	if (!rc)
		rc = copy_text(out->xdp_object, sizeof(out->xdp_object), object, "xdp_object", err);
	if (rc)
		return rc;
	out->kind = kind_of(in->kind);
	out->queues = in->queues;
	if (in->ipv4[0])
		config_ip(in->ipv4, &out->ipv4);
	if (in->ipv6[0])
		config_ip(in->ipv6, &out->ipv6);
	out->udp_port = in->udp_port;
	out->mtu = in->mtu;
	out->busy_budget = in->busy_budget;
	out->xdp_generic_allowed = in->xdp_generic_allowed;
	for (uint32_t i = 0; i < in->cores_count && i < DP_MAX_WORKERS; i++)
		out->cores[i] = (uint32_t)in->cores[i];
	return 0;
}

int config_to_dataplane(const struct config *c, bool limits_fallback, struct dp_config *out,
	struct error *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	out->magic = DP_CONFIG_MAGIC;
	out->version = DP_CONFIG_VERSION;
	out->bytes = sizeof(*out);
	rc = copy_text(out->instance, sizeof(out->instance), c->instance, "instance", err);
	if (!rc)
		rc = copy_text(out->run_dir, sizeof(out->run_dir), c->run_dir, "run_dir", err);
	if (rc)
		return rc;
	out->n_ports = c->ports_count;
	out->service_core = (uint32_t)c->dataplane.service_core; /* -1 = ~0 = any */
	out->memory_mb = c->dataplane.memory_mb;
	out->huge_pages = !strcmp(c->dataplane.huge_pages, "required");
	out->sessions = c->dataplane.sessions;
	out->lanes = c->dataplane.lanes;
	out->backend = backend_of(c->dataplane.backend);
	out->slice_us = c->dataplane.slice_us;
	out->queue_us = c->dataplane.queue_us;
	out->poll = strcmp(c->dataplane.poll, "adaptive") ? DP_POLL_BUSY : DP_POLL_ADAPTIVE;
	out->n_engines = c->dataplane.engine_cores_count;
	for (uint32_t i = 0; i < out->n_engines; i++)
		out->engine_cores[i] = (uint32_t)c->dataplane.engine_cores[i];
	out->refuse_not_finite = c->dataplane.refuse_not_finite;
	out->wide_buffers = c->dataplane.wide_buffers;
	out->reply_store_kb = c->dataplane.reply_store_mb ? c->dataplane.reply_store_mb * 1024 : UINT32_MAX;
	out->reply_store_over_ns = c->dataplane.reply_store_over_us * 1000;
	out->limits_fallback = limits_fallback;
	out->log_level = config_log_level(c);
	for (uint32_t p = 0; !rc && p < c->ports_count; p++)
		rc = port_to_dataplane(c, &c->ports[p], &out->ports[p], err);
	return rc;
}

static json_t *list_json(struct config *c, const struct option *o, uint32_t port)
{
	uint32_t n = *option_count(c, o, port);
	void *field = option_field(c, o, port);
	json_t *list = json_array();

	for (uint32_t i = 0; list && i < n; i++)
		json_array_append_new(list, o->type == OPTION_STRINGS
			? json_string((*(const char ***)field)[i])
			: json_integer((*(int32_t **)field)[i]));
	return list;
}

static json_t *option_json(struct config *c, const struct option *o, uint32_t port)
{
	void *field = option_field(c, o, port);

	switch (o->type) {
	case OPTION_STRING:
		return json_string(*(const char **)field);
	case OPTION_U32:
		return json_integer(*(uint32_t *)field);
	case OPTION_I32:
		return json_integer(*(int32_t *)field);
	case OPTION_BOOL:
		return json_boolean(*(bool *)field);
	default:
		return list_json(c, o, port);
	}
}

static int section_json(struct config *c, enum option_section section, uint32_t port, json_t *to)
{
	int rc = 0;

	for (uint32_t i = 0; i < config_options_count; i++)
		if (config_options[i].section == section)
			rc |= json_object_set_new(to, config_options[i].key,
				option_json(c, &config_options[i], port));
	return rc;
}

struct json_t *config_to_json(const struct config *config)
{
	struct config *c = (struct config *)(uintptr_t)config; /* read only: option_field() serves both */
	json_t *root = json_object(), *ports = json_array();
	int rc = section_json(c, SECTION_TOP, 0, root);

	for (uint32_t p = 0; p < c->ports_count; p++) {
		json_t *one = json_object();

		rc |= section_json(c, SECTION_PORTS, p, one);
		rc |= json_array_append_new(ports, one);
	}
	rc |= json_object_set_new(root, "ports", ports);
	for (int s = SECTION_DATAPLANE; s < SECTIONS; s++) {
		json_t *one = json_object();

		rc |= section_json(c, (enum option_section)s, 0, one);
		rc |= json_object_set_new(root, config_section_names[s], one);
	}
	if (!rc)
		return root;
	json_decref(root);
	return NULL;
}
