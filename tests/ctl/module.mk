
# The faces of control (HTTPS, control socket, licence, audit) in front of an in-memory machine.
T_FACES_SRCS = tests/ctl/t_faces.c tests/ctl/t_machine.c $(addprefix control/,api_v1.c api_v2.c api_v2_infer.c audit.c \
	ctl_commands.c ctl_line.c ctl_peer.c ctl_socket.c dashboard.c gateway.c http_reply.c \
	https.c ip_text.c license.c license_file.c metrics.c show.c show_stats.c tls_cert.c) $(BASE_SRCS)
T_FACES_LIBS = -levent_openssl -levent_extra -levent_core -lssl -lcrypto -ljansson -lcmocka $(BASE_LIBS)

TESTS += test_license test_http test_ctl_socket
test_license_SRCS = tests/ctl/test_license.c $(T_FACES_SRCS)
test_license_LIBS = $(T_FACES_LIBS)
test_http_SRCS = tests/ctl/test_http.c $(T_FACES_SRCS)
test_http_LIBS = $(T_FACES_LIBS)
test_ctl_socket_SRCS = tests/ctl/test_ctl_socket.c $(T_FACES_SRCS)
test_ctl_socket_LIBS = $(T_FACES_LIBS)

FUZZERS += fuzz_ctl_line fuzz_license
fuzz_ctl_line_SRCS = tests/ctl/fuzz_ctl_line.c tests/ctl/t_machine.c control/ctl_line.c control/ctl_commands.c \
	control/show.c control/show_stats.c control/audit.c control/license.c control/license_file.c \
	control/ip_text.c control/https.c control/http_reply.c control/api_v1.c \
	control/api_v2.c control/api_v2_infer.c control/gateway.c control/metrics.c control/dashboard.c control/tls_cert.c \
	$(addprefix dataplane/base/,error.c log.c clock.c fd.c file_replace.c histogram.c)
fuzz_ctl_line_LIBS = -levent_openssl -levent_extra -levent_core -lssl -lcrypto -ljansson
fuzz_license_SRCS = tests/ctl/fuzz_license.c control/license_file.c dataplane/base/error.c
fuzz_license_LIBS = -lcrypto -ljansson
