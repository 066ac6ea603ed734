/* SPDX-License-Identifier: BSD-3-Clause
 * Scripted appliance: see t_control.h.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "client/channel.h"
#include "tests/unit/t_control.h"

enum { KEY_ID = 99, TRIES = 4096 };

static void put_session(const struct t_control *t, uint16_t port, char *out, size_t cap)
{
	snprintf(out, cap,
		"{\"session_id\": \"00112233445566aa\", \"key_id\": %d, \"secret\": \"%s\", \"lanes\": 1, "
		"\"address\": \"127.0.0.1\", \"port\": %u, \"source\": \"127.0.0.1\", \"expires_in_s\": %u, "
		"\"plan\": {\"name\": \"t\", \"rate\": 1, \"burst\": 1}, \"models\": [{\"name\": \"%s\", "
		"\"id\": %u, \"version\": 7, \"max_rows\": %u, \"cost_units\": 1, \"row_in_bytes\": %u, "
		"\"row_out_bytes\": %u, \"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [%u]}], "
		"\"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [%u]}]}]}",
		KEY_ID, t->secret, port, t->ttl_s, t->model, wire_model_id(t->model), t->max_rows,
		t->floats_in * 4, t->floats_out * 4, t->floats_in, t->floats_out);
}

/* ---- TLS side ------------------------------------------------------------------------------ */

static void answer(struct t_control *t, SSL *ssl, const char *request)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);
	char body[2048] = "", text[4096];
	const char *status = "404 Not Found";

	getsockname(t->udp_fd, (struct sockaddr *)&a, &n);
	if (t->refuse || !strstr(request, "Authorization: Bearer sesame\r\n")) {
		status = "401 Unauthorized";
		snprintf(body, sizeof(body), "%s",
			"{\"error\": {\"message\": \"no such key\", \"code\": \"invalid_api_key\"}}");
	} else if (strncmp(request, "POST /v1/sessions HTTP/1.1\r\n", 28) == 0) {
		status = "201 Created";
		put_session(t, ntohs(a.sin_port), body, sizeof(body));
		t->issued++;
	} else if (strstr(request, "POST /v1/sessions/00112233445566aa/renew ") == request) {
		status = "200 OK";
		snprintf(body, sizeof(body), "%s",
			"{\"session_id\": \"00112233445566aa\", \"expires_in_s\": 3600}");
		t->renewed++;
	} else if (strstr(request, "DELETE /v1/sessions/00112233445566aa ") == request) {
		status = "204 No Content";
		t->deleted++;
	}
	snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", status,
		strlen(body), body);
	SSL_write(ssl, text, (int)strlen(text));
}

/* One connection: read a header, answer, again. Bodies of our client arrive in the same record. */
static void serve(struct t_control *t, int fd)
{
	SSL *ssl = SSL_new(t->ctx);
	char request[4096];
	int n;

	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1) {
		while ((n = SSL_read(ssl, request, sizeof(request) - 1)) > 0) {
			request[n] = '\0';
			answer(t, ssl, request);
		}
		SSL_shutdown(ssl);
	}
	SSL_free(ssl);
	close(fd);
}

static int stopped(struct t_control *t, int fd)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = t->stop_pipe[0], .events = POLLIN}};

	poll(p, 2, -1);
	return p[1].revents;
}

static void *https_loop(void *arg)
{
	struct t_control *t = arg;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE); /* of this thread only: the client has to cope by itself */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	while (!stopped(t, t->https_fd)) {
		int fd = accept(t->https_fd, NULL, NULL);

		if (fd >= 0)
			serve(t, fd);
	}
	return NULL;
}

/* ---- UDP side ------------------------------------------------------------------------------ */

struct udp_server {
	struct t_control *t;
	struct channel ch, foreign;
	int tries[TRIES]; /* attempts seen, by request id modulo TRIES */
	struct sockaddr_in to;
};

static int seal(struct channel *ch, const struct wire_request *q, uint8_t status, int rows,
	const uint8_t *in, uint8_t out[WIRE_MAX_PAYLOAD_BYTES])
{
	struct wire_reply r = {.request_id = q->request_id, .model_id = q->model_id, .status = status,
		.segment_count = 1};
	float y[T_ROW_FLOATS * 8] = {0};

	if (status == WIRE_RESULT) {
		r.dtype = WIRE_F32;
		r.rows = (uint16_t)rows;
		r.detail = 7;
		memcpy(y, in, (size_t)rows * T_ROW_FLOATS * sizeof(float));
		for (int i = 0; i < rows * T_ROW_FLOATS; i++)
			y[i] *= 2;
	} else {
		r.retry_after_us = 1234;
	}
	return channel_seal_reply(ch, &r, y, r.rows * T_ROW_FLOATS * sizeof(float), out,
		WIRE_MAX_PAYLOAD_BYTES);
}

static void put(struct udp_server *u, const uint8_t *d, int n)
{
	sendto(u->t->udp_fd, d, (size_t)n, 0, (struct sockaddr *)&u->to, sizeof(u->to));
}

static void forge(struct udp_server *u, const struct wire_request *q, const uint8_t *rows)
{
	uint8_t d[WIRE_MAX_PAYLOAD_BYTES];
	int n = seal(&u->foreign, q, WIRE_RESULT, q->rows, rows, d);

	put(u, d, n); /* another session's keys under this key id: the tag does not fit */
	put(u, (const uint8_t *)"short", 5);
	n = seal(&u->ch, q, WIRE_RESULT, q->rows, rows, d);
	d[n - 1] ^= 1;
	put(u, d, n);
}

static void act(struct udp_server *u, const struct wire_request *q, const uint8_t *rows)
{
	int tries = ++u->tries[q->request_id % TRIES], n, n_rows = q->rows;
	uint8_t d[WIRE_MAX_PAYLOAD_BYTES];
	float first;

	memcpy(&first, rows, sizeof(first));
	enum t_script script = (enum t_script)first;
	if (script == T_SILENCE || (script == T_LOSE_FIRST && tries == 1))
		return;
	if (script == T_FORGE)
		forge(u, q, rows);
	if (script == T_WRONG_SIZE && tries == 1)
		n_rows--;
	n = seal(&u->ch, q, script == T_RATE_LIMIT ? WIRE_RATE_LIMITED : WIRE_RESULT, n_rows, rows, d);
	put(u, d, n);
	if (script == T_REPLAY)
		put(u, d, n);
	if (script == T_ANSWER_TWICE)
		put(u, d, seal(&u->ch, q, WIRE_RESULT, q->rows, rows, d));
}

static void *udp_loop(void *arg)
{
	struct udp_server u = {.t = arg};
	uint8_t secret[WIRE_KEY_BYTES], d[2048];
	struct aead aead;

	aead_init(&aead);
	memset(secret, 1, sizeof(secret));
	channel_init(&u.foreign, &aead, secret, KEY_ID, 0, CHANNEL_SERVER);
	for (uint8_t i = 0; i < WIRE_KEY_BYTES; i++)
		secret[i] = i;
	channel_init(&u.ch, &aead, secret, KEY_ID, 0, CHANNEL_SERVER);
	while (!stopped(u.t, u.t->udp_fd)) {
		socklen_t to_bytes = sizeof(u.to);
		ssize_t n = recvfrom(u.t->udp_fd, d, sizeof(d), MSG_DONTWAIT, (struct sockaddr *)&u.to,
			&to_bytes);
		enum channel_verdict v;
		struct wire_request q;
		const uint8_t *rows;
		size_t bytes;

		if (n < 0)
			continue;
		v = channel_open_request(&u.ch, d, (size_t)n, &q, &rows, &bytes);
		u.t->requests += v == CHANNEL_OK;
		u.t->same_counter += v == CHANNEL_REPLAY;
		if (v == CHANNEL_OK && bytes == (size_t)q.rows * T_ROW_FLOATS * sizeof(float))
			act(&u, &q, rows);
	}
	channel_uninit(&u.ch);
	channel_uninit(&u.foreign);
	aead_uninit(&aead);
	return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------ */

static int bound(int type, struct sockaddr_in *a)
{
	socklen_t n = sizeof(*a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(fd, (struct sockaddr *)a, sizeof(*a)) || getsockname(fd, (struct sockaddr *)a, &n))
		return -1;
	return fd;
}

static int make_certificate(struct t_control *t)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	FILE *f;

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
		(const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_add_ext(cert, san, -1);
	X509_sign(cert, key, EVP_sha256());
	snprintf(t->ca_file, sizeof(t->ca_file), "/tmp/mr-test-client-%d.pem", (int)getpid());
	f = fopen(t->ca_file, "w");
	if (!f)
		return -1;
	PEM_write_X509(f, cert);
	fclose(f);
	X509_digest(cert, EVP_sha256(), digest, &n);
	for (unsigned int i = 0; i < n; i++)
		snprintf(t->pin + 2 * i, 3, "%02x", digest[i]);
	t->ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate(t->ctx, cert);
	SSL_CTX_use_PrivateKey(t->ctx, key);
	X509_EXTENSION_free(san);
	X509_free(cert);
	EVP_PKEY_free(key);
	return 0;
}

int t_control_start_https(struct t_control *t)
{
	struct sockaddr_in tcp, udp;

	memset(t, 0, sizeof(*t));
	t->ttl_s = 3600;
	t->secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="; /* 0, 1, .. 31 */
	t->model = "twice";
	t->max_rows = 3;
	t->floats_in = t->floats_out = T_ROW_FLOATS;
	t->https_fd = bound(SOCK_STREAM, &tcp);
	t->udp_fd = bound(SOCK_DGRAM, &udp);
	if (t->https_fd < 0 || t->udp_fd < 0 || listen(t->https_fd, 8) || pipe(t->stop_pipe) ||
		make_certificate(t))
		return -1;
	snprintf(t->https, sizeof(t->https), "127.0.0.1:%u", ntohs(tcp.sin_port));
	return pthread_create(&t->https_thread, NULL, https_loop, t);
}

int t_control_start(struct t_control *t)
{
	if (t_control_start_https(t) || pthread_create(&t->udp_thread, NULL, udp_loop, t))
		return -1;
	t->scripted = 1;
	return 0;
}

void t_control_stop(struct t_control *t)
{
	if (write(t->stop_pipe[1], "xx", 2) != 2)
		return;
	pthread_join(t->https_thread, NULL);
	if (t->scripted)
		pthread_join(t->udp_thread, NULL);
	SSL_CTX_free(t->ctx);
	unlink(t->ca_file);
	close(t->https_fd);
	close(t->udp_fd);
	close(t->stop_pipe[0]);
	close(t->stop_pipe[1]);
}
