/* SPDX-License-Identifier: BSD-3-Clause
 * Refusals of the operator's file with line, key, value found and what is allowed: see config_check.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi/xdp_maps.h"
#include "control/config_check.h"
#include "control/config_options.h"
#include "control/ip_text.h"

bool config_ip(const char *text, struct ip_addr *out)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct in_addr v4;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &v4) == 1) {
		memcpy(out->bytes, mapped, sizeof(mapped));
		memcpy(out->bytes + 12, &v4, 4);
		return true;
	}
	return inet_pton(AF_INET6, text, out->bytes) == 1;
}

static bool whole_number(const char *s, int64_t *out)
{
	char *end;

	if (!*s || strspn(s, "-0123456789") != strlen(s) || strlen(s) > 12)
		return false;
	*out = strtoll(s, &end, 10);
	return !*end;
}

bool config_listen(const char *text, struct ip_addr *ip, uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t n;
	int64_t number;

	if (!colon || !whole_number(colon + 1, &number) || number < 1 || number > 65535)
		return false;
	n = (size_t)(colon - text);
	if (n >= 2 && text[0] == '[' && colon[-1] == ']') {
		text++;
		n -= 2;
	}
	if (n >= sizeof(host))
		return false;
	memcpy(host, text, n);
	host[n] = 0;
	*port = (uint16_t)number;
	return config_ip(host, ip);
}

/* "ports[1].cores[0]" -> "ports[].cores[]"; *port = the first index. */
static void pattern_of(const char *path, char out[DOC_PATH_BYTES])
{
	char *to = out;

	for (; *path; path++) {
		*to++ = *path;
		if (*path == '[')
			path += strspn(path + 1, "0123456789");
	}
	*to = 0;
}

static const struct option *find_option(const char *pattern)
{
	for (uint32_t i = 0; i < config_options_count; i++) {
		const struct option *o = &config_options[i];
		char path[DOC_PATH_BYTES];

		option_path(o, 0, path, sizeof(path));
		if (o->section == SECTION_PORTS)
			snprintf(path, sizeof(path), "ports[].%s", o->key);
		if (!strcmp(path, pattern))
			return o;
	}
	return NULL;
}

static int number_in_range(const struct doc *d, const struct doc_node *n, int64_t min, int64_t max,
	struct error *err)
{
	int64_t v;

	if (n->kind != DOC_SCALAR || n->quoted || !whole_number(n->value, &v))
		return error_set(err, -EINVAL, "%s:%u: %s: '%s' is no whole number", d->name,
			n->line, n->path, n->value ? n->value : "a list");
	if (v < min || v > max)
		return error_set(err, -EINVAL, "%s:%u: %s: %lld is out of range, allowed %lld to %lld",
			d->name, n->line, n->path, (long long)v, (long long)min, (long long)max);
	return 0;
}

static int check_string(const struct doc *d, const struct doc_node *n, const struct option *o,
	struct error *err)
{
	int64_t bytes;

	if (n->kind != DOC_SCALAR)
		return error_set(err, -EINVAL, "%s:%u: %s: must be one value", d->name, n->line,
			n->path);
	bytes = (int64_t)strlen(n->value);
	if (o->choices && !option_choice(o->choices, n->value))
		return error_set(err, -EINVAL, "%s:%u: %s: '%.40s' is not one of %s", d->name,
			n->line, n->path, n->value, o->choices);
	if (bytes < o->min || bytes > o->max)
		return error_set(err, -EINVAL, "%s:%u: %s: %lld bytes, allowed %lld to %lld",
			d->name, n->line, n->path, (long long)bytes, (long long)o->min,
			(long long)o->max);
	return 0;
}

static int check_list(const struct doc *d, const struct doc_node *n, const struct option *o,
	struct error *err)
{
	if (n->kind != DOC_SEQUENCE)
		return error_set(err, -EINVAL, "%s:%u: %s: must be a list, like [a, b]", d->name,
			n->line, n->path);
	if ((int64_t)n->children < o->min || (int64_t)n->children > o->max)
		return error_set(err, -EINVAL, "%s:%u: %s: %u entries, allowed %lld to %lld",
			d->name, n->line, n->path, n->children, (long long)o->min,
			(long long)o->max);
	return 0;
}

static int check_value(const struct doc *d, const struct doc_node *n, const struct option *o,
	struct error *err)
{
	switch (o->type) {
	case OPTION_STRING:
		return check_string(d, n, o, err);
	case OPTION_U32:
	case OPTION_I32:
		return number_in_range(d, n, o->min, o->max, err);
	case OPTION_BOOL:
		if (n->kind == DOC_SCALAR && !n->quoted && option_choice("true|false", n->value))
			return 0;
		return error_set(err, -EINVAL, "%s:%u: %s: must be true or false", d->name,
			n->line, n->path);
	default:
		return check_list(d, n, o, err);
	}
}

static int check_entry(const struct doc *d, const struct doc_node *n, const struct option *o,
	struct error *err)
{
	if (o->type == OPTION_I32S)
		return number_in_range(d, n, 0, 4095, err);
	if (n->kind == DOC_SCALAR && n->value[0] && strlen(n->value) <= 200)
		return 0;
	return error_set(err, -EINVAL, "%s:%u: %s: must be one value of 1 to 200 bytes", d->name,
		n->line, n->path);
}

/* A section is a mapping (ports: a list of mappings). 1 = it is one and fine, 0 = no section. */
static int check_section(const struct doc *d, const struct doc_node *n, const char *pattern,
	struct error *err)
{
	bool list = !strcmp(pattern, "ports");
	bool known = list || !strcmp(pattern, "ports[]") || !pattern[0];

	for (int s = SECTION_DATAPLANE; s < SECTIONS; s++)
		known |= !strcmp(pattern, config_section_names[s]);
	if (!known)
		return 0;
	if (n->kind != (list ? DOC_SEQUENCE : DOC_MAPPING))
		return error_set(err, -EINVAL, "%s:%u: %s must be a %s", d->name, n->line,
			n->path[0] ? n->path : "the file", list ? "list of ports" : "mapping");
	if (list && (n->children < 1 || n->children > DP_MAX_PORTS))
		return error_set(err, -EINVAL, "%s:%u: ports: %u entries, allowed 1 to %d", d->name,
			n->line, n->children, DP_MAX_PORTS);
	return 1;
}

static int unknown_key(const struct doc *d, const struct doc_node *n, struct error *err)
{
	const char *dot = strrchr(n->path, '.');
	char known[200] = "";
	size_t used = 0;

	for (uint32_t i = 0; i < config_options_count; i++) {
		const struct option *o = &config_options[i];
		const char *section = config_section_names[o->section];
		bool same = dot ? o->section && !strncmp(section, n->path, strlen(section))
				: !o->section;

		if (same && used + strlen(o->key) + 2 < sizeof(known))
			used += (size_t)snprintf(known + used, sizeof(known) - used, " %s", o->key);
	}
	return error_set(err, -EINVAL, "%s:%u: unknown key %s (known here:%s%s)", d->name, n->line,
		n->path, known, dot ? "" : " ports dataplane limits https license models");
}

static int check_node(const struct doc *d, const struct doc_node *n, struct error *err)
{
	char pattern[DOC_PATH_BYTES];
	const struct option *o;
	size_t len;
	int rc;

	pattern_of(n->path, pattern);
	rc = check_section(d, n, pattern, err);
	if (rc)
		return rc < 0 ? rc : 0;
	o = find_option(pattern);
	if (o)
		return check_value(d, n, o, err);
	len = strlen(pattern);
	if (len > 2 && !strcmp(pattern + len - 2, "[]")) {
		pattern[len - 2] = 0;
		o = find_option(pattern);
		if (o)
			return check_entry(d, n, o, err);
	}
	return unknown_key(d, n, err);
}

static int check_required(const struct doc *d, struct error *err)
{
	const struct doc_node *ports = doc_find(d, "ports");

	if (!ports)
		return error_set(err, -EINVAL, "%s:%u: ports: missing; at least one data port is needed",
			d->name, doc_line(d, ""));
	for (uint32_t port = 0; port < ports->children; port++)
		for (uint32_t i = 0; i < config_options_count; i++) {
			const struct option *o = &config_options[i];
			char path[DOC_PATH_BYTES];

			if (o->section != SECTION_PORTS || o->fallback)
				continue;
			option_path(o, port, path, sizeof(path));
			if (!doc_find(d, path))
				return error_set(err, -EINVAL, "%s:%u: %s: missing", d->name,
					doc_line(d, path), path);
		}
	return 0;
}

int config_check_words(const struct doc *d, struct error *err)
{
	if (!d->n_nodes || d->nodes[0].kind != DOC_MAPPING)
		return error_set(err, -EINVAL, "%s:1: the file must be a mapping of keys to values",
			d->name);
	for (uint32_t i = 0; i < d->n_nodes; i++) {
		int rc = check_node(d, &d->nodes[i], err);

		if (rc)
			return rc;
	}
	return check_required(d, err);
}

/* ---------------------------------------------------------------------------------------------- */

static int at(const struct doc *d, const char *path, const char *what, const char *value,
	struct error *err)
{
	return error_set(err, -EINVAL, "%s:%u: %s: %s%s", d->name, doc_line(d, path), path, what,
		value);
}

/* CPUs that have been given to a worker or an engine, and those there are. */
struct cpus {
	bool used[CPU_SETSIZE];
	cpu_set_t online;
};

static int take_core(struct cpus *c, int32_t core, const struct doc *d, const char *path,
	struct error *err)
{
	if (core < 0 || core >= CPU_SETSIZE || !CPU_ISSET(core, &c->online))
		return at(d, path, "no such CPU here (see nproc, lscpu)", "", err);
	if (c->used[core])
		return at(d, path, "this CPU already has a worker or an engine", "", err);
	c->used[core] = true;
	return 0;
}

static int check_cores(const struct config *c, const struct doc *d, struct error *err)
{
	struct cpus cpus = {0};
	char path[DOC_PATH_BYTES];
	int rc = 0;

	if (sched_getaffinity(0, sizeof(cpus.online), &cpus.online) < 0)
		CPU_ZERO(&cpus.online);
	for (uint32_t p = 0; p < c->ports_count; p++)
		for (uint32_t i = 0; !rc && i < c->ports[p].cores_count; i++) {
			snprintf(path, sizeof(path), "ports[%u].cores[%u]", p, i);
			rc = take_core(&cpus, c->ports[p].cores[i], d, path, err);
		}
	for (uint32_t i = 0; !rc && i < c->dataplane.engine_cores_count; i++) {
		snprintf(path, sizeof(path), "dataplane.engine_cores[%u]", i);
		rc = take_core(&cpus, c->dataplane.engine_cores[i], d, path, err);
	}
	return rc;
}

static int check_address(const struct config *c, const struct doc *d, uint32_t p, struct error *err)
{
	const struct config_port *port = &c->ports[p];
	struct ip_addr ip, listen;
	char path[DOC_PATH_BYTES];
	uint16_t listen_port;

	snprintf(path, sizeof(path), "ports[%u].ipv4", p);
	if (port->ipv4[0] && (!config_ip(port->ipv4, &ip) || strchr(port->ipv4, ':')))
		return at(d, path, "not an IPv4 address: ", port->ipv4, err);
	if (!port->ipv4[0] && !port->ipv6[0])
		return at(d, path, "a port needs an ipv4 or an ipv6 address", "", err);
	config_listen(c->https.listen, &listen, &listen_port);
	if (port->ipv4[0] && !memcmp(&ip, &listen, sizeof(ip)))
		return at(d, "https.listen", "this is a data port's address: ", port->ipv4, err);
	snprintf(path, sizeof(path), "ports[%u].ipv6", p);
	if (port->ipv6[0] && (!config_ip(port->ipv6, &ip) || !strchr(port->ipv6, ':')))
		return at(d, path, "not an IPv6 address: ", port->ipv6, err);
	if (port->ipv6[0] && !memcmp(&ip, &listen, sizeof(ip)))
		return at(d, "https.listen", "this is a data port's address: ", port->ipv6, err);
	return 0;
}

static int check_port(const struct config *c, const struct doc *d, uint32_t p, struct error *err)
{
	const struct config_port *port = &c->ports[p];
	char path[DOC_PATH_BYTES];

	snprintf(path, sizeof(path), "ports[%u].cores", p);
	if (port->cores_count != port->queues)
		return at(d, path, "needs exactly one CPU for each queue", "", err);
	snprintf(path, sizeof(path), "ports[%u].args", p);
	if (!strcmp(port->kind, "af_xdp") && port->args[0])
		return at(d, path, "an af_xdp port takes no arguments", "", err);
	snprintf(path, sizeof(path), "ports[%u].device", p);
	if (!strcmp(port->kind, "af_xdp") && strlen(port->device) >= IF_NAMESIZE)
		return at(d, path, "not an interface name: ", port->device, err);
	if (!strcmp(port->kind, "af_xdp") && c->dataplane.sessions > XDP_MAX_SESSIONS)
		return at(d, "dataplane.sessions", "the XDP map of an af_xdp port holds 131072", "",
			err);
	for (uint32_t q = 0; q < p; q++)
		if (!strcmp(c->ports[q].device, port->device))
			return at(d, path, "this device already is a port: ", port->device, err);
	return check_address(c, d, p, err);
}

static int check_networks(const struct doc *d, const char *key, const char *const *list, uint32_t n,
	struct error *err)
{
	static const struct ip_addr any;

	for (uint32_t i = 0; i < n; i++) {
		char path[DOC_PATH_BYTES];

		snprintf(path, sizeof(path), "https.%s[%u]", key, i);
		if (ip_in_network(&any, list[i]) < 0)
			return at(d, path, "not a network like 10.77.0.0/24 or fd77::/64: ", list[i], err);
	}
	return 0;
}

int config_check_meaning(const struct config *c, const struct doc *d, struct error *err)
{
	struct ip_addr ip;
	uint16_t port;
	uint32_t workers = 0;
	int rc = 0;

	if (strspn(c->instance, "abcdefghijklmnopqrstuvwxyz0123456789-_") != strlen(c->instance))
		return at(d, "instance", "only a-z, 0-9, - and _: ", c->instance, err);
	if (c->run_dir[0] != '/')
		return at(d, "run_dir", "must be an absolute path: ", c->run_dir, err);
	if (c->state_dir[0] != '/')
		return at(d, "state_dir", "must be an absolute path: ", c->state_dir, err);
	if (c->dataplane.sessions & (c->dataplane.sessions - 1))
		return at(d, "dataplane.sessions", "must be a power of two", "", err);
	if (!config_listen(c->https.listen, &ip, &port))
		return at(d, "https.listen", "must be ADDRESS:PORT: ", c->https.listen, err);
	if (!c->https.certificate[0] != !c->https.key[0])
		return at(d, "https.certificate", "certificate and key go together", "", err);
	rc = check_networks(d, "data_networks", c->https.data_networks, c->https.data_networks_count, err);
	if (!rc)
		rc = check_networks(d, "operator_networks", c->https.operator_networks,
			c->https.operator_networks_count, err);
	for (uint32_t p = 0; !rc && p < c->ports_count; p++) {
		rc = check_port(c, d, p, err);
		workers += c->ports[p].queues;
	}
	if (!rc && workers > DP_MAX_WORKERS)
		return at(d, "ports", "more than 16 queues altogether", "", err);
	return rc ? rc : check_cores(c, d, err);
}

/* RX queues of an interface: the rx-N folders of sysfs, which is mounted for our network namespace. */
static uint32_t rx_queues(const char *device)
{
	uint32_t n = 0;
	char path[128];

	do
		snprintf(path, sizeof(path), "/sys/class/net/%s/queues/rx-%u", device, n++);
	while (!access(path, F_OK));
	return n - 1;
}

int config_check_host(const struct config *c, struct error *err)
{
	for (uint32_t p = 0; p < c->ports_count; p++) {
		const struct config_port *port = &c->ports[p];
		uint32_t queues;

		if (strcmp(port->kind, "af_xdp"))
			continue;
		if (!if_nametoindex(port->device))
			return error_set(err, -ENODEV, "ports[%u].device: no interface %s here "
				"(see: ip link)", p, port->device);
		queues = rx_queues(port->device);
		if (queues && queues != port->queues)
			return error_set(err, -EINVAL, "ports[%u].queues: %s has %u RX queues but %u "
				"workers; packets of the others would vanish (ethtool -L %s combined %u)",
				p, port->device, queues, port->queues, port->device, port->queues);
	}
	return 0;
}
