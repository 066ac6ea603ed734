/* SPDX-License-Identifier: BSD-3-Clause
 * The CLI's command table, and nothing else. Order is the order of the help.
 */
#include "control/cli/cli.h"

#define NAME {"name", CLI_NAME, false, true, "its name"}
#define RATE(req) {"rate", CLI_RATE, true, req, "limiter units a second, like 200k"}
#define BURST(req) {"burst", CLI_RATE, true, req, "units that may come at once"}
#define MODELS {"models", CLI_LIST, true, false, "comma-separated names; default all"}
#define PLAN {"plan", CLI_TEXT, true, false, "plan that gives rate, burst and models"}

const struct cli_command cli_commands[] = {
	{"status", "status", {{0}}, view_status, NULL, "the appliance at a glance"},
	{"top", "top", {{"interval", CLI_RATE, true, false, "seconds between two pictures (1)"},
		{"count", CLI_RATE, true, false, "stop after so many pictures"}}, NULL, top_run,
		"live rates, latency, cycles per request and drops; q quits"},
	{"show workers", "show.workers", {{0}}, view_workers, NULL, "each worker: CPU, state, counters, latency"},
	{"show models", "show.models", {{0}}, view_models, NULL, "models and their three slots"},
	{"show sessions", "show.sessions",
		{{"limit", CLI_RATE, true, false, "at most so many (1000)"}}, view_sessions, NULL,
		"live datagram sessions"},
	{"show subscribers", "show.subscribers", {{0}}, view_subscribers, NULL, "subscribers, limits and usage"},
	{"show plans", "show.plans", {{0}}, view_plans, NULL, "plans"},
	{"show limits", "show.limits", {{0}}, view_limits, NULL, "limiter slots as the dataplane sees them"},
	{"show drops", "show.drops", {{0}}, view_drops, NULL, "dropped packets by reason"},
	{"show license", "show.license", {{0}}, view_license, NULL, "licence: state, entitlements, use"},
	{"model load", "model.load",
		{{"path", CLI_FILE, false, true, "artifact (.mrm, or .onnx)"},
			{"name", CLI_TEXT, true, false, "serve it under this name; default the artifact's"},
			{"activate", CLI_SWITCH, true, false, "make it current when it is loaded"}},
		view_model, NULL, "load a model into its next slot, with progress"},
	{"model activate", "model.activate", {NAME}, view_model, NULL, "make the next version current"},
	{"model rollback", "model.rollback", {NAME}, view_model, NULL, "make the previous version current again"},
	{"model cache", "model.cache",
		{NAME, {"memory_kb", CLI_RATE, true, false, "KiB on each worker for each loaded version, 0 = no cache"},
			{"ttl_ms", CLI_RATE, true, false, "answers older than that are computed again (0 = never)"},
			{"shared", CLI_BOOL, true, false, "true: one subscriber may be answered with what another asked"}},
		view_model, NULL, "keep answers for the same input; effective at once, begins empty"},
	{"model record", "model.record",
		{NAME, {"rows", CLI_RATE, true, false, "so many rows at most (10000)"},
			{"seconds", CLI_RATE, true, false, "and for so long at most (60)"},
			{"subscriber", CLI_TEXT, true, false, "this one's only; default everybody's"}},
		view_trace, NULL, "record input rows into state_dir/traces, 0600: they are subscribers' data"},
	{"model warm", "model.warm",
		{NAME, {"path", CLI_FILE, true, false, "rows (.npy); default what was recorded"},
			{"subscriber", CLI_TEXT, true, false, "as this one's questions; needed unless the cache is shared"}},
		view_trace, NULL, "fill the response cache with the answers to recorded rows"},
	{"model unload", "model.unload", {NAME}, view_done, NULL, "take a model out of service and memory"},
	{"subscriber add", "subscriber.add", {NAME, PLAN, RATE(false), BURST(false), MODELS},
		view_subscriber, NULL, "create a subscriber; its API key is shown once"},
	{"subscriber remove", "subscriber.remove", {NAME}, view_done, NULL,
		"close its sessions and forget its key; the usage record stays"},
	{"subscriber set", "subscriber.set",
		{NAME, PLAN, RATE(false), BURST(false), MODELS,
			{"suspended", CLI_BOOL, true, false, "true answers QUOTA_EXHAUSTED to everything"}},
		view_subscriber, NULL, "change limits or suspend; effective at once"},
	{"plan set", "plan.set", {NAME, RATE(true), BURST(true), MODELS,
		{"weight", CLI_RATE, true, false, "share of the core under overload (1)"},
		{"concurrent", CLI_RATE, true, false, "requests that may wait or run at once (0 = any)"},
		{"quota", CLI_RATE, true, false, "units a calendar month, UTC (0 = any)"}},
		view_plan, NULL,
		"create or change a plan; its subscribers follow at once"},
	{"plan remove", "plan.remove", {NAME}, view_done, NULL, "remove a plan nobody is on"},
	{"license install", "license.install",
		{{"path", CLI_FILE, false, true, "licence file from the vendor"}}, view_license, NULL,
		"verify and install a licence"},
	{"license show", "show.license", {{0}}, view_license, NULL, "same as show license"},
	{"dataplane restart", "dataplane.restart", {{0}}, view_restart, NULL,
		"stop the dataplane and start it again"},
	{"check", NULL, {{"file", CLI_FILE, false, true, "configuration file"}}, NULL, check_run,
		"check a configuration file (millrace-control --check)"},
	{"doctor", NULL, {{0}}, NULL, doctor_run, "find what is wrong, and say how to mend it"},
	{"completion bash", NULL, {{0}}, NULL, completion_run,
		"shell completion: eval \"$(millrace completion bash)\""},
};

const size_t cli_commands_count = sizeof(cli_commands) / sizeof(cli_commands[0]);
