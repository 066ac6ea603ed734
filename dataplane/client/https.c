/* SPDX-License-Identifier: BSD-3-Clause
 * A small blocking HTTPS client: see https.h.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/socket.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "client/https.h"

/* ---- set-up ------------------------------------------------------------------------------- */

static int split_url(struct https *h, const char *url, struct error *err)
{
	const char *s = strncmp(url, "https://", 8) ? url : url + 8;
	const char *colon = strrchr(s, ':'), *end = colon;
	size_t port_bytes;

	if (!colon || strncmp(s, "http://", 7) == 0)
		return error_set(err, -EINVAL, "\"%.200s\" is not host:port", url);
	if (*s == '[') {
		s++;
		end = colon - 1;
		if (end <= s || *end != ']')
			return error_set(err, -EINVAL, "\"%.200s\" is not [address]:port", url);
	}
	port_bytes = strcspn(colon + 1, "/");
	if (end == s || (size_t)(end - s) >= sizeof(h->host) || !port_bytes ||
		port_bytes >= sizeof(h->port) || colon[1 + port_bytes + (colon[1 + port_bytes] == '/')] ||
		strspn(colon + 1, "0123456789") != port_bytes)
		return error_set(err, -EINVAL, "\"%.200s\" is not host:port", url);
	memcpy(h->host, s, (size_t)(end - s));
	memcpy(h->port, colon + 1, port_bytes);
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_pin(struct https *h, const char *hex, struct error *err)
{
	for (int i = 0; i < 32; i++, hex += 2) {
		int hi, lo;

		hex += i && *hex == ':'; /* as `openssl x509 -fingerprint` writes it */
		hi = hex_digit(hex[0]);
		lo = hi < 0 ? -1 : hex_digit(hex[1]);
		if (lo < 0)
			return error_set(err, -EINVAL, "pin_sha256 is not 64 hex digits");
		h->pin[i] = (uint8_t)(hi << 4 | lo);
	}
	if (*hex)
		return error_set(err, -EINVAL, "pin_sha256 is longer than 64 hex digits");
	h->pinned = true;
	return 0;
}

/* Replaces OpenSSL's chain building when a pin is given: this certificate and no other. */
static int verify_pin(X509_STORE_CTX *store, void *arg)
{
	const struct https *h = arg;
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int n = 0;

	if (leaf && X509_digest(leaf, EVP_sha256(), digest, &n) == 1 && n == sizeof(h->pin) &&
		CRYPTO_memcmp(digest, h->pin, n) == 0)
		return 1;
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
	return 0;
}

static int set_trust(struct https *h, const char *ca_file, bool insecure, struct error *err)
{
	if (insecure) {
		SSL_CTX_set_verify(h->ctx, SSL_VERIFY_NONE, NULL);
		return 0;
	}
	SSL_CTX_set_verify(h->ctx, SSL_VERIFY_PEER, NULL);
	if (h->pinned)
		SSL_CTX_set_cert_verify_callback(h->ctx, verify_pin, h);
	else if (ca_file && SSL_CTX_load_verify_file(h->ctx, ca_file) != 1)
		return error_set(err, access(ca_file, R_OK) ? -errno : -EIO,
			"cannot take certificates from %s", ca_file);
	else if (!ca_file && SSL_CTX_set_default_verify_paths(h->ctx) != 1)
		return error_set(err, -EIO, "cannot load the system's certificates");
	return 0;
}

int https_init(struct https *h, const char *url, const char *ca_file, const char *pin_hex,
	bool insecure, uint32_t timeout_ms, struct error *err)
{
	int rc;

	memset(h, 0, sizeof(*h));
	h->fd = -1;
	h->timeout_ms = timeout_ms;
	if (!!ca_file + !!pin_hex + insecure > 1)
		return error_set(err, -EINVAL, "give one of ca_file, pin_sha256 and insecure");
	rc = split_url(h, url, err);
	if (!rc && pin_hex)
		rc = parse_pin(h, pin_hex, err);
	if (rc)
		return rc;
	h->ctx = SSL_CTX_new(TLS_client_method());
	if (!h->ctx || SSL_CTX_set_min_proto_version(h->ctx, TLS1_3_VERSION) != 1)
		rc = error_set(err, -ENOMEM, "cannot make a TLS context");
	if (!rc)
		rc = set_trust(h, ca_file, insecure, err);
	if (rc)
		https_uninit(h);
	return rc;
}

static void disconnect(struct https *h)
{
	if (h->ssl) {
		if (SSL_is_init_finished(h->ssl))
			SSL_shutdown(h->ssl);
		SSL_free(h->ssl);
	}
	if (h->fd >= 0)
		close(h->fd);
	h->ssl = NULL;
	h->fd = -1;
}

/* OpenSSL writes to sockets without MSG_NOSIGNAL. A library must not change the process's handlers, so
 * the signal is blocked in this thread and one that arose is taken back. */
static void sigpipe_block(sigset_t *before)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, before);
}

static void sigpipe_restore(const sigset_t *before)
{
	struct timespec none = {0, 0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	if (!sigismember(before, SIGPIPE))
		sigtimedwait(&set, NULL, &none);
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

void https_uninit(struct https *h)
{
	sigset_t before;

	if (!h->ctx)
		return;
	sigpipe_block(&before);
	disconnect(h);
	sigpipe_restore(&before);
	SSL_CTX_free(h->ctx);
	h->ctx = NULL;
}

/* ---- connection: non-blocking socket, every wait against one deadline ---------------------- */

static int wait_for(int fd, short events, uint64_t deadline_ns, struct error *err)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = clock_now_ns();
		int rc = now >= deadline_ns ? 0
					    : poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1);

		if (rc > 0)
			return 0;
		if (rc == 0)
			return error_set(err, -ETIMEDOUT, "no answer in time");
		if (errno != EINTR)
			return error_set(err, -errno, "poll: %s", strerror(errno));
	}
}

static int connect_one(struct https *h, const struct addrinfo *a, uint64_t deadline_ns,
	struct error *err)
{
	socklen_t n = sizeof(int);
	int fd, soerr = 0, one = 1, rc;

	fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	rc = connect(fd, a->ai_addr, a->ai_addrlen) ? -errno : 0;
	if (rc == -EINPROGRESS) {
		rc = wait_for(fd, POLLOUT, deadline_ns, err);
		if (!rc && getsockopt(fd, SOL_SOCKET, SO_ERROR, &soerr, &n) == 0)
			rc = -soerr;
	}
	if (rc) {
		close(fd);
		return error_set(err, rc, "cannot connect to %s port %s: %s", h->host, h->port,
			strerror(-rc));
	}
	h->fd = fd;
	return 0;
}

static int connect_any(struct https *h, uint64_t deadline_ns, struct error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list, *a;
	int rc = getaddrinfo(h->host, h->port, &hints, &list);

	if (rc)
		return error_set(err, -EIO, "cannot resolve %s: %s", h->host, gai_strerror(rc));
	rc = -EIO;
	for (a = list; a && rc; a = a->ai_next)
		rc = connect_one(h, a, deadline_ns, err);
	freeaddrinfo(list);
	return rc;
}

/* What a failed SSL call means: wait and go on (0), or -errno with err. */
static int tls_again(struct https *h, int result, uint64_t deadline_ns, struct error *err)
{
	unsigned long queued = ERR_peek_last_error();

	switch (SSL_get_error(h->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(h->fd, POLLIN, deadline_ns, err);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(h->fd, POLLOUT, deadline_ns, err);
	case SSL_ERROR_ZERO_RETURN:
		return error_set(err, -EPIPE, "%s closed the connection", h->host);
	case SSL_ERROR_SSL:
		if (SSL_get_verify_result(h->ssl) != X509_V_OK && !SSL_is_init_finished(h->ssl))
			return error_set(err, -EKEYREJECTED, "certificate of %s is not trusted: %s",
				h->host,
				X509_verify_cert_error_string(SSL_get_verify_result(h->ssl)));
		return error_set(err, -EPIPE, "TLS with %s failed: %s", h->host,
			queued ? ERR_reason_error_string(queued) : "unknown reason");
	default:
		return error_set(err, -EPIPE, "%s broke the connection", h->host);
	}
}

static int set_peer_name(struct https *h)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(h->ssl);

	if (X509_VERIFY_PARAM_set1_ip_asc(param, h->host) == 1)
		return 0; /* an address: no SNI (RFC 6066 section 3) */
	if (SSL_set1_host(h->ssl, h->host) != 1 || SSL_set_tlsext_host_name(h->ssl, h->host) != 1)
		return -ENOMEM;
	return 0;
}

static int connect_tls(struct https *h, uint64_t deadline_ns, struct error *err)
{
	int rc = connect_any(h, deadline_ns, err), r;

	if (rc)
		return rc;
	h->ssl = SSL_new(h->ctx);
	if (!h->ssl || set_peer_name(h) || SSL_set_fd(h->ssl, h->fd) != 1)
		rc = error_set(err, -ENOMEM, "cannot make a TLS connection");
	while (!rc) {
		ERR_clear_error();
		r = SSL_connect(h->ssl);
		if (r == 1)
			return 0;
		rc = tls_again(h, r, deadline_ns, err);
	}
	disconnect(h);
	return rc;
}

/* ---- one exchange -------------------------------------------------------------------------- */

static const char *header_find(const char *head, size_t n, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = head, *end = head + n; p < end;) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));

		if (!line_end)
			break;
		if ((size_t)(line_end - p) > len && strncasecmp(p, name, len) == 0 && p[len] == ':')
			return p + len + 1 + strspn(p + len + 1, " \t");
		p = line_end + 1;
	}
	return NULL;
}

/* Decimal, at least one digit, up to the end of the line, at most HTTPS_MAX_BODY_BYTES. */
static int parse_length(const char *s, size_t *out)
{
	size_t v = 0;

	if (*s < '0' || *s > '9')
		return -EPROTO;
	for (; *s >= '0' && *s <= '9'; s++) {
		v = v * 10 + (size_t)(*s - '0');
		if (v > HTTPS_MAX_BODY_BYTES)
			return -EMSGSIZE;
	}
	*out = v;
	return *s == '\r' ? 0 : -EPROTO;
}

int https_parse(const char *text, size_t n, int *status, size_t *body_offset, size_t *body_bytes,
	bool *keep_alive)
{
	const char *end = memmem(text, n, "\r\n\r\n", 4), *value;
	size_t head, length = 0;
	int rc = 0;

	if (!end)
		return n > HTTPS_MAX_HEADER_BYTES ? -EMSGSIZE : 0;
	head = (size_t)(end - text) + 4;
	if (head > HTTPS_MAX_HEADER_BYTES)
		return -EMSGSIZE;
	if (head < 16 || memcmp(text, "HTTP/1.1 ", 9) || memchr(text, 0, head) || text[12] != ' ')
		return -EPROTO;
	*status = 0;
	for (int i = 9; i < 12; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EPROTO;
		*status = *status * 10 + text[i] - '0';
	}
	if (*status < 200 || header_find(text, head, "Transfer-Encoding"))
		return -EPROTO;
	value = header_find(text, head, "Content-Length");
	if (value)
		rc = parse_length(value, &length);
	else if (*status != 204)
		rc = -EPROTO; /* a body that ends with the connection could be cut off unseen */
	if (rc)
		return rc;
	value = header_find(text, head, "Connection");
	*keep_alive = !value || strncasecmp(value, "close", 5) != 0;
	*body_offset = head;
	*body_bytes = length;
	return n >= head + length;
}

static int write_all(struct https *h, const char *data, size_t n, uint64_t deadline_ns,
	struct error *err)
{
	size_t done = 0;
	int rc = 0;

	while (done < n && !rc) {
		int r;

		ERR_clear_error();
		r = SSL_write(h->ssl, data + done, (int)(n - done));
		if (r > 0)
			done += (size_t)r;
		else
			rc = tls_again(h, r, deadline_ns, err);
	}
	return rc;
}

/* Reads header and body into a->body and moves the body to its front. */
static int read_answer(struct https *h, struct https_answer *a, uint64_t deadline_ns,
	struct error *err)
{
	size_t have = 0, offset, bytes;
	int rc = 0, got, one = 1;

	for (;;) {
		/* A server that sends head and body apart waits for our ACK in between: 40 ms if delayed. */
		setsockopt(h->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
		ERR_clear_error();
		if (have == sizeof(a->body))
			return error_set(err, -EPROTO, "answer of %s is too long", h->host);
		got = SSL_read(h->ssl, a->body + have, (int)(sizeof(a->body) - have));
		if (got <= 0) {
			rc = tls_again(h, got, deadline_ns, err);
			if (rc)
				return rc;
			continue;
		}
		have += (size_t)got;
		rc = https_parse(a->body, have, &a->status, &offset, &bytes, &a->keep_alive);
		if (rc < 0)
			return error_set(err, -EPROTO, "%s sent no HTTP answer we accept", h->host);
		if (rc == 1)
			break;
	}
	memmove(a->body, a->body + offset, bytes);
	explicit_bzero(a->body + bytes, have - bytes); /* a moved body may hold a secret */
	a->body_bytes = bytes;
	return 0;
}

static int exchange(struct https *h, const char *text, size_t n, struct https_answer *a,
	struct error *err)
{
	uint64_t deadline_ns = clock_now_ns() + h->timeout_ms * NS_PER_MS;
	int rc = h->ssl ? 0 : connect_tls(h, deadline_ns, err);

	if (!rc)
		rc = write_all(h, text, n, deadline_ns, err);
	if (!rc)
		rc = read_answer(h, a, deadline_ns, err);
	if (rc || !a->keep_alive)
		disconnect(h);
	return rc;
}

int https_call(struct https *h, const char *method, const char *path, const char *bearer,
	const char *body, struct https_answer *a, struct error *err)
{
	size_t body_bytes = body ? strlen(body) : 0;
	bool kept = h->ssl != NULL, v6 = strchr(h->host, ':') != NULL;
	char text[2048];
	sigset_t before;
	int n, rc;

	n = snprintf(text, sizeof(text),
		"%s %s HTTP/1.1\r\nHost: %s%s%s:%s\r\nAuthorization: Bearer %s\r\n"
		"Accept: application/json\r\n%sContent-Length: %zu\r\n\r\n%s",
		method, path, v6 ? "[" : "", h->host, v6 ? "]" : "", h->port, bearer,
		body ? "Content-Type: application/json\r\n" : "", body_bytes, body ? body : "");
	if (n < 0 || (size_t)n >= sizeof(text))
		return error_set(err, -EINVAL, "request is too long");
	sigpipe_block(&before);
	rc = exchange(h, text, (size_t)n, a, err);
	if (rc == -EPIPE && kept) /* the server had closed the idle connection */
		rc = exchange(h, text, (size_t)n, a, err);
	sigpipe_restore(&before);
	explicit_bzero(text, sizeof(text));
	return rc == -EPIPE ? (err ? (err->code = -EIO) : -EIO) : rc;
}
