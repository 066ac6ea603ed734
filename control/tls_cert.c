/* SPDX-License-Identifier: BSD-3-Clause
 * Self-signed certificate and certificate loading: see tls_cert.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "base/file_replace.h"
#include "control/tls_cert.h"

enum { CERT_DAYS = 3650 };

static int openssl_error(struct error *err, int code, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	ERR_clear_error();
	return error_set(err, code, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool ok = e && X509_add_ext(cert, e, -1);

	X509_EXTENSION_free(e);
	return ok;
}

static bool set_names(X509 *cert, const char *address)
{
	char host[HOST_NAME_MAX + 1] = "", san[512];
	X509_NAME *name = X509_get_subject_name(cert);
	uint8_t probe[16];
	int n;

	if (gethostname(host, sizeof(host) - 1) || !*host || strspn(host,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != strlen(host))
		snprintf(host, sizeof(host), "millrace");
	n = snprintf(san, sizeof(san), "DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1", host);
	if (address && (inet_pton(AF_INET, address, probe) == 1 ||
			       inet_pton(AF_INET6, address, probe) == 1))
		snprintf(san + n, sizeof(san) - (size_t)n, ",IP:%s", address);
	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
		       (const uint8_t *)"Millrace appliance", -1, -1, 0) &&
	       X509_set_issuer_name(cert, name) && add_extension(cert, NID_subject_alt_name, san);
}

static bool set_serial(X509 *cert)
{
	uint64_t serial;

	if (RAND_bytes((uint8_t *)&serial, sizeof(serial)) != 1)
		return false;
	return ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1 | 1);
}

static X509 *make_cert(EVP_PKEY *key, const char *address)
{
	X509 *cert = X509_new();
	bool ok = cert && X509_set_version(cert, 2) && set_serial(cert) &&
		  X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
		  X509_time_adj_ex(X509_getm_notAfter(cert), CERT_DAYS, 0, NULL) &&
		  X509_set_pubkey(cert, key) && set_names(cert, address) &&
		  add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
		  add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
		  add_extension(cert, NID_ext_key_usage, "serverAuth") &&
		  X509_sign(cert, key, EVP_sha256()) > 0;

	if (ok)
		return cert;
	X509_free(cert);
	return NULL;
}

static int write_pem(const char *path, BIO *pem, mode_t mode, struct error *err)
{
	char *data;
	long n = BIO_get_mem_data(pem, &data);

	return file_replace(path, data, (size_t)n, mode, err);
}

static int make_pair(const char *cert_path, const char *key_path, const char *address,
	struct error *err)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	X509 *cert = key ? make_cert(key, address) : NULL;
	BIO *key_pem = BIO_new(BIO_s_secmem()), *cert_pem = BIO_new(BIO_s_mem());
	int rc = 0;

	if (!cert || !key_pem || !cert_pem || !PEM_write_bio_X509(cert_pem, cert) ||
		!PEM_write_bio_PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL))
		rc = openssl_error(err, -EIO, "https: the certificate could not be made");
	if (rc == 0)
		rc = write_pem(key_path, key_pem, 0600, err);
	if (rc == 0)
		rc = write_pem(cert_path, cert_pem, 0644, err);
	BIO_free(key_pem);
	BIO_free(cert_pem);
	X509_free(cert);
	EVP_PKEY_free(key);
	return rc;
}

int tls_cert_ensure(const char *cert_path, const char *key_path, const char *address,
	struct error *err)
{
	if (access(cert_path, F_OK) == 0 && access(key_path, F_OK) == 0)
		return 0;
	return make_pair(cert_path, key_path, address, err);
}

int tls_cert_use(SSL_CTX *ctx, const char *cert_path, const char *key_path, struct error *err)
{
	char what[600];

	snprintf(what, sizeof(what), "https.certificate %s", cert_path);
	if (SSL_CTX_use_certificate_chain_file(ctx, cert_path) != 1)
		return openssl_error(err, access(cert_path, R_OK) ? -ENOENT : -EINVAL, what);
	snprintf(what, sizeof(what), "https.key %s", key_path);
	if (SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM) != 1)
		return openssl_error(err, access(key_path, R_OK) ? -ENOENT : -EINVAL, what);
	if (SSL_CTX_check_private_key(ctx) != 1)
		return openssl_error(err, -EINVAL, "https: certificate and key do not belong together");
	return 0;
}

void tls_cert_fingerprint(const SSL_CTX *ctx, char out[65])
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	const X509 *cert = ctx ? SSL_CTX_get0_certificate(ctx) : NULL;

	out[0] = 0;
	if (!cert || X509_digest(cert, EVP_sha256(), digest, &n) != 1)
		return;
	for (unsigned int i = 0; i < n && i < 32; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}
