/* SPDX-License-Identifier: BSD-3-Clause
 * The operator's YAML file (firmware-config/millrace.yaml): read with libcyaml, checked, refused with file,
 * line and what to write instead. A refused file changes nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "abi/config.h"
#include "base/error.h"

enum { CONFIG_MAX_LIST = 16 };

struct config_port {
	const char *kind, *device, *args;
	uint32_t queues;
	int32_t *cores;
	uint32_t cores_count;
	const char *ipv4, *ipv6;
	uint32_t udp_port, mtu, busy_budget;
	bool xdp_generic_allowed;
	const char *neighbours;    /* dataplane | kernel */
	const char *other_traffic; /* kernel | drop */
};

struct config {
	const char *instance, *run_dir, *state_dir, *log_level;
	struct config_port *ports;
	uint32_t ports_count;
	struct {
		const char *program, *xdp_object;
		int32_t service_core;
		uint32_t memory_mb;
		const char *huge_pages; /* required | preferred | off */
		uint32_t sessions, lanes;
		const char *backend;
		uint32_t slice_us, queue_us;
		const char *poll; /* busy | adaptive */
		int32_t *engine_cores;
		uint32_t engine_cores_count;
		bool refuse_not_finite;
		uint32_t wide_buffers, reply_store_mb, reply_store_over_us;
		uint32_t hang_ms;
		bool attach;
	} dataplane;
	struct {
		uint32_t slots;
		const char *bpf; /* required | preferred */
	} limits;
	struct {
		const char *listen, *certificate, *key;
		uint32_t session_ttl_s, sessions_per_subscriber;
		const char **data_networks; /* where a data address other than the TLS peer's may lie */
		uint32_t data_networks_count;
		const char **operator_networks; /* who reads /metrics and the dashboard, besides this host */
		uint32_t operator_networks_count;
	} https;
	struct {
		const char *file;
		const char **keys;
		uint32_t keys_count;
	} license;
	struct {
		bool require_signature;
		const char **trusted_keys;
		uint32_t trusted_keys_count;
		const char **preload;
		uint32_t preload_count;
	} models;
};

/* Read and check `path`; environment overrides applied; every value in *out is in range afterwards.
 * 0, or -EINVAL/-ENOENT with "file:line: what is wrong, what is allowed". Free with config_free(). */
int config_load(struct config **out, const char *path, struct error *err);
/* Same for a buffer (tests, fuzzing). `name` appears in messages. */
int config_parse(struct config **out, const char *name, const char *text, size_t n,
	struct error *err);
void config_free(struct config *c); /* NULL is allowed */

/* The dataplane's part. 0, or -EINVAL with err. */
int config_to_dataplane(const struct config *c, bool limits_fallback, struct dp_config *out,
	struct error *err);
/* Effective configuration as a JSON object (jansson, new reference), NULL when out of memory. */
struct json_t;
struct json_t *config_to_json(const struct config *c);
