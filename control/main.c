/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-control: a table of modules, one loop, undo in reverse.
 */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "control/attach.h"
#include "control/audit.h"
#include "control/config.h"
#include "control/config_check.h"
#include "control/ctl_socket.h"
#include "control/dp_link_private.h"
#include "control/gateway.h"
#include "control/https.h"
#include "control/license.h"
#include "control/limits_table.h"
#include "control/models_private.h"
#include "control/sessions.h"
#include "control/startup.h"
#include "control/store.h"
#include "control/subscribers.h"
#include "control/supervisor.h"

struct module {
	const char *name;
	int (*init)(struct control *ctl, struct error *err);
	void (*uninit)(struct control *ctl);
};

static const struct module modules[] = {
	{"store", store_init, store_uninit},
	{"audit", audit_init, audit_uninit},
	{"license", license_init, license_uninit},
	{"limits", limits_table_init, limits_table_uninit},
	{"sessions", sessions_init, sessions_uninit},
	{"models", models_init, models_uninit},
	{"subscribers", subscribers_init, subscribers_uninit},
	{"link", dp_link_init, dp_link_uninit},
	{"supervisor", supervisor_init, supervisor_uninit},
	{"gateway", gateway_init, gateway_uninit},
	{"https", https_init, https_uninit},
	{"control socket", ctl_socket_init, ctl_socket_uninit},
};
enum { MODULES = sizeof(modules) / sizeof(modules[0]) };

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
	struct control *ctl = arg;

	(void)what;
	log_info("stopping: signal %d", (int)sig);
	event_base_loopbreak(ctl->base);
}

static void on_hangup(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	(void)arg;
	log_info("SIGHUP: a changed configuration needs a restart of millrace-control");
}

/* Everything the loop does. 0, or -errno when it could not be set up. */
static int serve(struct control *ctl)
{
	struct event *signals[3] = {evsignal_new(ctl->base, SIGTERM, on_stop, ctl),
		evsignal_new(ctl->base, SIGINT, on_stop, ctl),
		evsignal_new(ctl->base, SIGHUP, on_hangup, ctl)};
	int rc = 0;

	for (int i = 0; i < 3; i++)
		if (!signals[i] || event_add(signals[i], NULL) < 0)
			rc = -ENOMEM;
	if (!rc) {
		startup_notify("READY=1");
		event_base_dispatch(ctl->base);
		startup_notify("STOPPING=1");
		/* Whoever waits for an answer gets it while its face is still there. */
		dp_commands_fail_all(ctl, -ECANCELED);
		model_jobs_cancel(ctl);
		event_base_loop(ctl->base, EVLOOP_NONBLOCK); /* the answers leave */
		supervisor_set_stop(ctl, !ctl->config->dataplane.attach);
	}
	for (int i = 0; i < 3; i++)
		if (signals[i])
			event_free(signals[i]);
	return rc;
}

static int run(struct control *ctl, struct error *err)
{
	int n = 0, rc = 0;

	for (; !rc && n < MODULES; n++) {
		rc = modules[n].init(ctl, err);
		if (rc)
			error_prefix(err, "%s", modules[n].name);
	}
	if (!rc)
		rc = serve(ctl);
	else
		supervisor_set_stop(ctl, !ctl->config->dataplane.attach);
	while (n--) /* also the one that failed: uninit takes what there is */
		modules[n].uninit(ctl);
	return rc;
}

int main(int argc, char **argv)
{
	struct options o = startup_options(argc, argv);
	struct control ctl = {0};
	struct error err = {0};
	int locks[2] = {-1, -1}, rc;

	if (o.exit >= 0)
		return o.exit;
	if (config_load(&ctl.config, o.config, &err)) {
		fprintf(stderr, "millrace-control: %s\n", err.text);
		return 1;
	}
	if (o.check) {
		rc = startup_check(ctl.config, o.json);
		config_free(ctl.config);
		return rc;
	}
	log_init("control", (enum log_level)config_log_level(ctl.config));
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* session keys pass through here */
	signal(SIGPIPE, SIG_IGN);
	ctl.started_wall_s = clock_wall_s();
	rc = startup_lock(ctl.config, locks, &err);
	if (!rc) {
		ctl.base = event_base_new();
		rc = ctl.base ? run(&ctl, &err) : -ENOMEM;
		if (ctl.base)
			event_base_free(ctl.base);
	}
	if (rc)
		log_error("%s", err.text[0] ? err.text : strerror(-rc));
	config_free(ctl.config);
	fd_close(locks[0]);
	fd_close(locks[1]);
	return rc ? 1 : 0;
}
