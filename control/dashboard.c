/* SPDX-License-Identifier: BSD-3-Clause
 * Serves the page that is built into the program: see dashboard.h.
 */
#include <event2/buffer.h>
#include <event2/http.h>

#include "control/dashboard.h"

/* The file as it is, read-only, by the assembler: no generator and no copy to keep in step. */
__asm__(".section .rodata\n"
	".global dashboard_page\n.global dashboard_page_end\n"
	"dashboard_page:\n.incbin \"control/dashboard/index.html\"\ndashboard_page_end:\n"
	".previous\n");
extern const char dashboard_page[], dashboard_page_end[];

void dashboard_reply(struct evhttp_request *req)
{
	struct evkeyvalq *h = evhttp_request_get_output_headers(req);

	evhttp_add_header(h, "Content-Type", "text/html; charset=utf-8");
	evhttp_add_header(h, "Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
		"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'");
	evhttp_add_header(h, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(h, "Referrer-Policy", "no-referrer");
	evhttp_add_header(h, "Cache-Control", "no-cache");
	evbuffer_add_reference(evhttp_request_get_output_buffer(req), dashboard_page,
		(size_t)(dashboard_page_end - dashboard_page), NULL, NULL);
	evhttp_send_reply(req, 200, "OK", NULL);
}
