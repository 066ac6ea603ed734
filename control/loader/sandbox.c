/* SPDX-License-Identifier: BSD-3-Clause
 * Limits and the system-call filter: see sandbox.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "abi/model_file.h"
#include "control/loader/sandbox.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 }; /* the sanitizers' run time opens files and needs terabytes of address space */
#else
enum { SANITIZED = 0 };
#endif

/* What reading, hashing, sealing and answering need. Memory for libc; the rest on open descriptors. */
static const int allowed[] = {
	SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(write), SCMP_SYS(fstat), SCMP_SYS(newfstatat),
	SCMP_SYS(close), SCMP_SYS(ftruncate), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
	SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register), SCMP_SYS(munmap), SCMP_SYS(madvise),
	 SCMP_SYS(brk), SCMP_SYS(mremap), SCMP_SYS(futex), SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday), SCMP_SYS(getpid), SCMP_SYS(getrandom), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

static const int fcntl_commands[] = {F_GETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS};

/* No core dump, no file longer than an artifact, no descriptors past a handful, ten minutes of CPU. */
static void set_limits(void)
{
	const struct {
		__rlimit_resource_t what;
		rlim_t value;
	} limits[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_NOFILE, 64},
		{RLIMIT_FSIZE, (rlim_t)1 << (MODEL_FILE_MAX_BYTES_LOG2 + 1)},
		{RLIMIT_AS, SANITIZED ? RLIM_INFINITY
				      : (rlim_t)1 << (MODEL_FILE_MAX_BYTES_LOG2 + 1)},
		{RLIMIT_CPU, 600},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit old, want = {limits[i].value, limits[i].value};

		if (getrlimit(limits[i].what, &old) == 0 && old.rlim_max < want.rlim_max)
			want.rlim_cur = want.rlim_max = old.rlim_max;
		setrlimit(limits[i].what, &want);
	}
}

static int fill(scmp_filter_ctx ctx)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; !rc && i < sizeof(fcntl_commands) / sizeof(fcntl_commands[0]); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
			SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)fcntl_commands[i]));
	if (!rc) /* memory yes, code no */
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return rc ? rc : seccomp_load(ctx);
}

int sandbox_enter(struct error *err)
{
	scmp_filter_ctx ctx;
	int rc;

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	set_limits();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "no_new_privs: %s", strerror(errno));
	if (SANITIZED)
		return error_set(err, -ENOTSUP, "no system-call filter in a sanitizer build");
	ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return error_set(err, -ENOMEM, "seccomp: out of memory");
	rc = fill(ctx);
	seccomp_release(ctx);
	return rc ? error_set(err, rc, "system-call filter: %s", strerror(-rc)) : 0;
}
