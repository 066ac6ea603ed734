/* SPDX-License-Identifier: BSD-3-Clause
 * One load from request to answer: header and tail, signature, body with its hashes, seal.
 */
#pragma once

#include "base/error.h"
#include "control/loader/hasher.h"
#include "control/loader/loader.h"
#include "control/loader/reader.h"
#include "control/loader/target.h"

struct load {
	int sock; /* progress goes here; -1 = nowhere */
	struct reader reader;
	struct target target;
	struct hasher hasher;
	struct loader_reply reply;
	uint64_t began_ns;
	uint64_t reported_ns;
	struct model_file_header header; /* as it was checked first */
};

/* Everything that must exist before the sandbox closes. 0 or -errno with err. */
int load_init(struct load *l, int sock, struct error *err);
void load_uninit(struct load *l);

/* Load the artifact open at `fd`. 0: l->reply is a complete LOADER_DONE and l->target holds the sealed
 * memfd. -errno with err: refused, err->text is the reason. */
int load_run(struct load *l, const struct loader_request *req, int fd, struct error *err);
