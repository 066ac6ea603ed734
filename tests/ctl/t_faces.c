/* SPDX-License-Identifier: BSD-3-Clause
 * Starts and stops the faces in a child process: see t_faces.h.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/audit.h"
#include "control/config.h"
#include "control/ctl_socket.h"
#include "base/file_replace.h"
#include "control/https.h"
#include "control/license.h"
#include "control/license_file.h"
#include "tests/ctl/t_faces.h"

void t_license_make(const char *dir, const char *name, int64_t not_before, int64_t not_after)
{
	struct license_doc doc = {.id = "test-1", .customer = "Acme", .edition = "standard",
		.not_before_wall_s = not_before, .not_after_wall_s = not_after, .subscribers = 2, .models = 2,
		.total_rate = 1e6};
	char key[128], pub[128], path[128], *text = NULL;
	struct error err;
	struct stat st;
	EVP_PKEY *pkey;
	FILE *f;

	snprintf(key, sizeof(key), "%s/vendor.pem", dir);
	snprintf(pub, sizeof(pub), "%s/vendor-public.pem", dir);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (stat(key, &st)) {
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
		assert_non_null(f = fopen(key, "w"));
		assert_true(PEM_write_PrivateKey(f, pkey, NULL, NULL, 0, NULL, NULL));
		fclose(f);
		assert_non_null(f = fopen(pub, "w"));
		assert_true(PEM_write_PUBKEY(f, pkey));
		fclose(f);
		EVP_PKEY_free(pkey);
	}
	assert_int_equal(license_file_issue(&text, &doc, key, &err), 0);
	assert_int_equal(file_replace(path, text, strlen(text), 0644, &err), 0);
	free(text);
}

static void on_term(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	event_base_loopbreak(arg);
}

static int init_all(struct control *ctl, struct error *err)
{
	int rc = audit_init(ctl, err);

	if (rc == 0)
		rc = license_init(ctl, err);
	if (rc == 0)
		rc = t_worker_init(ctl, err);
	if (rc == 0)
		rc = https_init(ctl, err);
	return rc ? rc : ctl_socket_init(ctl, err);
}

static int serve(const char *dir, int ready)
{
	char key[128];
	const char *keys[] = {key}, *networks[] = {"10.77.0.0/24"};
	struct config_port port = {.kind = "af_xdp", .device = "eth1", .queues = 1, .ipv4 = "10.77.0.1",
		.ipv6 = "fd77::1", .udp_port = 4433};
	struct config config = {.instance = "test", .run_dir = dir, .state_dir = dir, .ports = &port,
		.ports_count = 1, .https = {.listen = "127.0.0.1:0",
		.data_networks = networks, .data_networks_count = 1}, .license = {.keys = keys,
		.keys_count = 1}};
	struct control ctl = {.config = &config, .base = event_base_new(),
		.started_wall_s = clock_wall_s()};
	struct event *term = evsignal_new(ctl.base, SIGTERM, on_term, ctl.base);
	struct error err = {0};
	uint16_t p;
	int rc;

	log_init("faces", getenv("T_LOG") ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
	signal(SIGPIPE, SIG_IGN); /* as main.c does: OpenSSL writes with write() */
	snprintf(key, sizeof(key), "%s/vendor-public.pem", dir);
	event_add(term, NULL);
	rc = init_all(&ctl, &err);
	if (rc)
		fprintf(stderr, "faces: %s\n", err.text);
	p = https_port(&ctl);
	if (write(ready, &p, sizeof(p)) != sizeof(p))
		rc = -1;
	close(ready);
	if (rc == 0)
		event_base_dispatch(ctl.base);
	while (t_loading && event_base_loop(ctl.base, EVLOOP_ONCE) == 0)
		; /* on a slow machine they are still at it */
	ctl_socket_uninit(&ctl);
	https_uninit(&ctl);
	t_worker_uninit(&ctl);
	license_uninit(&ctl);
	audit_uninit(&ctl);
	event_free(term);
	event_base_free(ctl.base);
	return rc ? 1 : 0;
}

void t_faces_start(struct t_faces *f, bool licensed)
{
	int64_t now = clock_wall_s();
	int ready[2];

	if (!f->dir[0]) {
		snprintf(f->dir, sizeof(f->dir), "/tmp/mr-faces-XXXXXX");
		assert_non_null(mkdtemp(f->dir));
		chmod(f->dir, 0755);
		t_license_make(f->dir, licensed ? "license.json" : "other.json", now - 60, now + 86400);
	}
	snprintf(f->socket, sizeof(f->socket), "%s/control.sock", f->dir);
	assert_int_equal(pipe(ready), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		close(ready[0]);
		exit(serve(f->dir, ready[1]));
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &f->port, sizeof(f->port)), sizeof(f->port));
	close(ready[0]);
	assert_int_not_equal(f->port, 0);
}

void t_faces_stop(struct t_faces *f)
{
	char command[128];
	int status;

	kill(f->pid, SIGTERM);
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	assert_int_equal(system(command), 0);
	f->dir[0] = 0;
}
