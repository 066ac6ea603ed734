/* SPDX-License-Identifier: BSD-3-Clause
 * One load: a sandboxed millrace-model child for an .onnx, then a millrace-loader child that turns the
 * artifact into a verified, sealed memfd. Everything has a deadline; the loop never waits.
 */
#pragma once

#include "control/control.h"
#include "control/loader/loader.h"

struct model_load;

struct model_load_spec {
	const char *path; /* absolute; .mrm or .onnx */
	const char *name; /* what an .onnx is compiled as; NULL = from the file's name */
	uint64_t number;  /* names the compiled artifact in state_dir/artifacts */
	/* From the loop. `done` exactly once unless cancelled: rc 0 with the memfd (the callee's) and
	 * the loader's last reply, or -errno with err. `path` is the artifact that was read. */
	void (*progress)(uint64_t done, uint64_t total, const char *text, void *arg);
	void (*done)(int rc, int fd, const struct loader_reply *reply, const char *path,
		const struct error *err, void *arg);
	void *arg;
};

/* The name an artifact or an .onnx would be loaded under, without trusting it. 0 or -errno with err. */
int model_load_name(const char *path, char *out, size_t n, struct error *err);
/* 0 = done will be called; -errno with err: it will not. */
int model_load_start(struct model_load **out, struct control *ctl,
	const struct model_load_spec *spec, struct error *err);
/* Kill the children and forget it: `done` is not called. */
void model_load_cancel(struct model_load *l);

/* Trusted publishers' keys from PEM files, read once. */
struct model_keys {
	uint32_t n;
	uint8_t keys[8][MODEL_FILE_PUBLIC_KEY_BYTES];
};
int model_keys_read(struct model_keys *k, const char *const *files, uint32_t n, struct error *err);
