/* SPDX-License-Identifier: BSD-3-Clause
 * The operator's commands: one table of {name, role, arguments, handler, help}, and the reading of one
 * request line against it. `help` is printed from the table. Loop thread only.
 */
#pragma once

#include <jansson.h>

#include "control/control.h"
#include "control/show.h"

enum ctl_role { CTL_NONE, CTL_VIEWER, CTL_OPERATOR, CTL_ADMIN };
const char *ctl_role_name(enum ctl_role r);

enum { CTL_MAX_LINE_BYTES = 65536, CTL_MAX_DEPTH = 16, CTL_MAX_ARGS = 8, CTL_ASYNC = 1 };

enum ctl_type { CTL_TEXT, CTL_NUMBER, CTL_FLAG, CTL_LIST };

struct ctl_arg {
	const char *name;
	enum ctl_type type;
	bool required;
};

/* One command being carried out. It lives until finish() has been called. */
struct ctl_request {
	struct control *ctl;
	const struct ctl_command *command;
	json_t *id;   /* echoed; json_null() when the line had none */
	json_t *args; /* object, checked against the table */
	bool dry_run;
	enum ctl_role role;
	char actor[96], subject[128]; /* for the audit */
	const struct show_rate *rate;
	/* Where progress and the end go; finish frees the request. `result` is stolen. */
	void (*progress)(struct ctl_request *rq, uint64_t done, uint64_t total, const char *text);
	void (*finish)(struct ctl_request *rq, int rc, json_t *result, const struct error *err);
	void *owner;
};

struct ctl_command {
	const char *name;
	enum ctl_role role;
	bool mutates; /* audited, and honours dry_run */
	struct ctl_arg args[CTL_MAX_ARGS];
	/* 0 with *result, CTL_ASYNC when rq->finish will be called later, or -errno with err. */
	int (*run)(struct ctl_request *rq, json_t **result, struct error *err);
	const char *help;
};

const struct ctl_command *ctl_command_find(const char *name);

/* Read one line (without newline) into rq->{command,id,args,dry_run,subject}. 0, or -errno with err; the id
 * is set when it could be read, so that the refusal can name it. Pure: touches nothing else. Free
 * with ctl_request_clear(). */
int ctl_line_parse(struct ctl_request *rq, const char *line, size_t n, struct error *err);
void ctl_request_clear(struct ctl_request *rq);

/* Check the role and carry it out; rq->finish has been or will be called exactly once. */
void ctl_request_run(struct ctl_request *rq);

/* The protocol's error code (control/API.md) of an errno. */
const char *ctl_error_code(int rc);
