/* SPDX-License-Identifier: BSD-3-Clause
 * Child processes by pidfd: see child.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/child.h"

static int pidfd_of(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* A sanitizer reserves terabytes of addresses: no limit would let it start. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LIMIT_ADDRESSES = 0 };
#else
enum { LIMIT_ADDRESSES = 1 };
#endif

static int limit(int what, uint64_t value)
{
	struct rlimit r = {value, value};

	return value ? setrlimit((__rlimit_resource_t)what, &r) : 0;
}

/* What a compiler of a hostile file has no use for. A deny-list: what it may do is read one file and
 * write another; file rights and limits keep it there. */
static int filter(void)
{
	static const int refused[] = {SCMP_SYS(socket), SCMP_SYS(socketpair), SCMP_SYS(connect),
		SCMP_SYS(bind), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
		SCMP_SYS(process_vm_writev), SCMP_SYS(bpf), SCMP_SYS(io_uring_setup),
		SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(unshare), SCMP_SYS(setns),
		SCMP_SYS(kexec_load), SCMP_SYS(init_module), SCMP_SYS(finit_module),
		SCMP_SYS(delete_module), SCMP_SYS(perf_event_open), SCMP_SYS(keyctl),
		SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(kill), SCMP_SYS(tkill),
		SCMP_SYS(pidfd_open), SCMP_SYS(pidfd_send_signal), SCMP_SYS(userfaultfd),
		SCMP_SYS(chroot), SCMP_SYS(pivot_root), SCMP_SYS(reboot), SCMP_SYS(swapon),
		SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(fork), SCMP_SYS(vfork)};
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
	int rc = f ? 0 : -ENOMEM;

	for (size_t i = 0; !rc && i < sizeof(refused) / sizeof(refused[0]); i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
	if (!rc)
		rc = seccomp_load(f);
	if (f)
		seccomp_release(f);
	return rc;
}

static int enter_sandbox(const struct child_spec *spec)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		limit(RLIMIT_AS, LIMIT_ADDRESSES ? spec->memory_bytes : 0) < 0 ||
		limit(RLIMIT_FSIZE, spec->file_bytes) < 0 || limit(RLIMIT_CPU, spec->cpu_s) < 0 ||
		limit(RLIMIT_NOFILE, 64) < 0)
		return -errno;
	return filter();
}

/* Between fork and exec; one write to `report` when something fails. */
static void run_child(const struct child_spec *spec, int report)
{
	sigset_t none;
	int rc = 0;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* No session of its own: that were a scheduling group of its own (sched_autogroup), within which our nice value would count
	 * for nothing. Beside a spinning process of our group Linux 6.18 let such a group wait for 12 s. */
	if (spec->group)
		setpgid(0, 0);
	if (spec->output >= 0 && (dup2(spec->output, 1) < 0 || dup2(spec->output, 2) < 0))
		rc = -errno;
	if (!rc && report == 3)
		report = fcntl(report, F_DUPFD_CLOEXEC, 4);
	if (!rc && spec->fd3 == 3)
		rc = fcntl(3, F_SETFD, 0) < 0 ? -errno : 0;
	else if (!rc && spec->fd3 >= 0)
		rc = dup2(spec->fd3, 3) < 0 ? -errno : 0;
	if (!rc && spec->sandbox)
		rc = enter_sandbox(spec);
	if (!rc) {
		execv(spec->path, spec->argv);
		rc = -errno;
	}
	(void)!write(report, &rc, sizeof(rc));
	_exit(127);
}

int child_start(struct child *c, const struct child_spec *spec, struct error *err)
{
	int report[2], failed = 0;
	pid_t pid;

	*c = (struct child){.pidfd = -1};
	if (pipe2(report, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		run_child(spec, report[1]);
	close(report[1]);
	if (pid > 0 && read(report[0], &failed, sizeof(failed)) != sizeof(failed))
		failed = 0;
	close(report[0]);
	if (pid < 0)
		return error_set(err, -errno, "fork: %s", strerror(errno));
	if (failed) {
		waitpid(pid, NULL, 0);
		return error_set(err, failed, "%s: %s", spec->path, strerror(-failed));
	}
	c->pid = pid;
	c->ours = true;
	c->pidfd = pidfd_of(pid);
	if (c->pidfd >= 0)
		return 0;
	failed = -errno;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	c->pid = 0;
	return error_set(err, failed, "pidfd_open: %s", strerror(-failed));
}

int child_adopt(struct child *c, pid_t pid, struct error *err)
{
	*c = (struct child){.pidfd = -1};
	if (pid <= 0)
		return error_set(err, -ESRCH, "its process id is not visible from here");
	c->pidfd = pidfd_of(pid);
	if (c->pidfd < 0)
		return error_set(err, -errno, "pidfd_open %d: %s", pid, strerror(errno));
	c->pid = pid;
	return 0;
}

int child_signal(const struct child *c, int sig)
{
	if (c->pidfd < 0)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, c->pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

bool child_wait(const struct child *c, int ms)
{
	struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
	int rc;

	if (c->pidfd < 0)
		return true;
	do
		rc = poll(&p, 1, ms);
	while (rc < 0 && errno == EINTR);
	return rc > 0;
}

static void describe(const siginfo_t *si, char *how, size_t n)
{
	if (si->si_code == CLD_EXITED)
		snprintf(how, n, "exit status %d", si->si_status);
	else
		snprintf(how, n, "killed by signal %d (%s)", si->si_status,
			strsignal(si->si_status));
}

bool child_reap(struct child *c, char *how, size_t n)
{
	siginfo_t si = {0};

	if (!child_wait(c, 0))
		return false;
	snprintf(how, n, "gone");
	if (c->ours && waitid(P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG) == 0 && si.si_pid)
		describe(&si, how, n);
	if (c->pidfd >= 0)
		close(c->pidfd);
	*c = (struct child){.pidfd = -1};
	return true;
}

void child_kill(struct child *c)
{
	char how[64];

	if (c->pidfd < 0)
		return;
	child_signal(c, SIGKILL);
	child_wait(c, 2000);
	child_reap(c, how, sizeof(how));
}
