/* SPDX-License-Identifier: BSD-3-Clause
 * A scripted appliance for client tests: a TLS server that issues one fixed session, and a UDP server
 * that answers by script. Both on loopback, each in a thread of its own.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { T_ROW_FLOATS = 4 };

/* First float of a request's row: what the server does with it. The answer is the row times 2. */
enum t_script {
	T_ANSWER = 0,
	T_LOSE_FIRST,    /* answers the second attempt */
	T_ANSWER_TWICE,  /* two sealed answers: the second is late */
	T_REPLAY,        /* the same datagram twice */
	T_RATE_LIMIT,    /* RATE_LIMITED, retry after 1234 us */
	T_SILENCE,
	T_FORGE,         /* garbage, a damaged answer, a foreign answer, then the true one */
	T_WRONG_SIZE,    /* authentic, but a row too few; true answer at the second attempt */
};

struct t_control {
	char https[32];       /* "127.0.0.1:port" */
	char ca_file[64];     /* the server's certificate */
	char pin[65];
	int https_fd, udp_fd, stop_pipe[2];
	struct ssl_ctx_st *ctx;
	pthread_t https_thread, udp_thread;
	int scripted;         /* the UDP thread runs */
	uint32_t ttl_s;       /* of the session issued; set before the client opens */
	/* what the session says; the scripted server's unless changed before the client opens */
	const char *secret;   /* base64 */
	const char *model;
	uint32_t max_rows, floats_in, floats_out; /* of a row */
	atomic_int refuse;    /* 401 to everybody */
	atomic_int issued, renewed, deleted;
	atomic_int requests;  /* authentic datagrams */
	atomic_int same_counter; /* datagrams refused as replays: a client must never cause one */
};

int t_control_start(struct t_control *t);
/* The same without the UDP server's thread: t->udp_fd is the caller's to serve. */
int t_control_start_https(struct t_control *t);
void t_control_stop(struct t_control *t);
