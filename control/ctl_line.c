/* SPDX-License-Identifier: BSD-3-Clause
 * One request line of the control socket, read and checked against the command table: see
 * ctl_commands.h. Nothing here touches the appliance.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "control/ctl_commands.h"

/* Brackets outside of texts: refused before the recursive parser sees them. */
static bool too_deep(const char *line, size_t n)
{
	bool in_text = false;
	int depth = 0;

	for (size_t i = 0; i < n; i++) {
		if (in_text && line[i] == '\\')
			i++;
		else if (line[i] == '"')
			in_text = !in_text;
		else if (!in_text && (line[i] == '{' || line[i] == '['))
			depth++;
		else if (!in_text && (line[i] == '}' || line[i] == ']'))
			depth--;
		if (depth > CTL_MAX_DEPTH)
			return true;
	}
	return false;
}

static int take_id(struct ctl_request *rq, json_t *id, struct error *err)
{
	rq->id = json_null();
	if (!id)
		return 0;
	if (!json_is_integer(id) && !(json_is_string(id) && json_string_length(id) <= 64))
		return error_set(err, -EINVAL, "\"id\" must be a whole number or a text of up to 64 bytes");
	rq->id = json_incref(id);
	return 0;
}

static const char *type_name(enum ctl_type t)
{
	static const char *const names[] = {"a text", "a number", "true or false",
		"a list of names"};

	return names[t];
}

static bool type_fits(enum ctl_type t, const json_t *v)
{
	const json_t *item;
	size_t i;

	switch (t) {
	case CTL_TEXT:
		return json_is_string(v) && json_string_length(v) < 4096;
	case CTL_NUMBER:
		return json_is_number(v) && isfinite(json_number_value(v));
	case CTL_FLAG:
		return json_is_boolean(v);
	case CTL_LIST:
		break;
	}
	if (!json_is_array(v) || json_array_size(v) > 64)
		return false;
	json_array_foreach(v, i, item)
		if (!json_is_string(item) || strchr(json_string_value(item), ','))
			return false;
	return true;
}

static const struct ctl_arg *find_arg(const struct ctl_command *c, const char *name)
{
	for (size_t i = 0; i < CTL_MAX_ARGS && c->args[i].name; i++)
		if (!strcmp(c->args[i].name, name))
			return &c->args[i];
	return NULL;
}

static int check_args(const struct ctl_command *c, json_t *args, struct error *err)
{
	const struct ctl_arg *a;
	const char *name;
	json_t *v;

	json_object_foreach(args, name, v) {
		a = find_arg(c, name);
		if (!a)
			return error_set(err, -EINVAL, "%s has no argument \"%.64s\"", c->name, name);
		if (!type_fits(a->type, v))
			return error_set(err, -EINVAL, "%s: \"%s\" must be %s", c->name, name,
				type_name(a->type));
	}
	for (size_t i = 0; i < CTL_MAX_ARGS && c->args[i].name; i++)
		if (c->args[i].required && !json_object_get(args, c->args[i].name))
			return error_set(err, -EINVAL, "%s needs \"%s\"", c->name, c->args[i].name);
	return 0;
}

static int check_keys(json_t *o, struct error *err)
{
	static const char *const known[] = {"id", "cmd", "args", "dry_run"};
	const char *name;
	json_t *v;

	json_object_foreach(o, name, v) {
		size_t i = 0;

		while (i < 4 && strcmp(known[i], name))
			i++;
		if (i == 4)
			return error_set(err, -EINVAL, "unknown field \"%.64s\"; there are id, cmd, args, dry_run",
				name);
	}
	return 0;
}

static int take_command(struct ctl_request *rq, json_t *o, struct error *err)
{
	const char *cmd = json_string_value(json_object_get(o, "cmd"));
	json_t *args = json_object_get(o, "args"), *dry = json_object_get(o, "dry_run");
	const char *subject;

	if (!cmd)
		return error_set(err, -EINVAL, "\"cmd\" must be a text; see the command help");
	rq->command = ctl_command_find(cmd);
	if (!rq->command)
		return error_set(err, -ENOSYS, "unknown command \"%.64s\"; see the command help", cmd);
	if (args && !json_is_object(args))
		return error_set(err, -EINVAL, "\"args\" must be an object");
	if (dry && !json_is_boolean(dry))
		return error_set(err, -EINVAL, "\"dry_run\" must be true or false");
	rq->dry_run = json_is_true(dry);
	rq->args = args ? json_incref(args) : json_object();
	subject = json_string_value(json_object_get(rq->args, "name"));
	if (!subject)
		subject = json_string_value(json_object_get(rq->args, "path"));
	snprintf(rq->subject, sizeof(rq->subject), "%.100s", subject ? subject : "");
	return check_args(rq->command, rq->args, err);
}

int ctl_line_parse(struct ctl_request *rq, const char *line, size_t n, struct error *err)
{
	json_error_t je;
	json_t *o;
	int rc;

	rq->id = json_null();
	if (n > CTL_MAX_LINE_BYTES)
		return error_set(err, -EMSGSIZE, "line longer than %d bytes", CTL_MAX_LINE_BYTES);
	if (too_deep(line, n))
		return error_set(err, -EINVAL, "nested deeper than %d", CTL_MAX_DEPTH);
	o = json_loadb(line, n, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(o)) {
		json_decref(o);
		return error_set(err, -EINVAL, "not a JSON object: %.100s (column %d)",
			o ? "another kind of value" : je.text, o ? 1 : je.column);
	}
	rc = take_id(rq, json_object_get(o, "id"), err);
	if (rc == 0)
		rc = check_keys(o, err);
	if (rc == 0)
		rc = take_command(rq, o, err);
	json_decref(o);
	return rc;
}

void ctl_request_clear(struct ctl_request *rq)
{
	json_decref(rq->id);
	json_decref(rq->args);
	rq->id = rq->args = NULL;
}
