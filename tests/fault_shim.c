/* LD_PRELOAD: the n-th call of a kind that changes files under a folder fails, or kills the process.

   shim_arm(folder, kind, n, error): kinds are the numbers of enum kind, ANY counts all of them;
   error 0 kills instead. shim_disarm() returns how many calls there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { ANY, WRITE, FSYNC, RENAME, OPEN, LINK, MKDIR, UNLINK };

static struct { char folder[PATH_MAX]; int kind, error; long at, seen; } armed;

void shim_arm(const char *folder, int kind, long at, int error)
{
    snprintf(armed.folder, sizeof armed.folder, "%s", folder);
    armed.kind = kind, armed.error = error, armed.at = at, armed.seen = 0;
}

long shim_disarm(void)
{
    armed.folder[0] = 0;
    return armed.seen;
}

static int fails(int kind)
{
    if ((armed.kind != ANY && armed.kind != kind) || ++armed.seen != armed.at)
        return 0;
    if (!armed.error)
        kill(getpid(), SIGKILL);
    errno = armed.error;
    return 1;
}

static int fd_fails(int kind, int fd)
{
    char link[64], path[PATH_MAX];
    if (!armed.folder[0])
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return strstr(path, armed.folder) && fails(kind);
}

/* An absolute path, or one in an open folder. */
static int path_fails(int kind, int folder, const char *path)
{
    if (!armed.folder[0])
        return 0;
    return path[0] == '/' || folder == AT_FDCWD ? strstr(path, armed.folder) && fails(kind)
                                                : fd_fails(kind, folder);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *b, size_t n)
{ return fd_fails(WRITE, fd) ? -1 : REAL(write)(fd, b, n); }

ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o)
{ return fd_fails(WRITE, fd) ? -1 : REAL(pwrite64)(fd, b, n, o); }

int ftruncate64(int fd, off64_t n)
{ return fd_fails(WRITE, fd) ? -1 : REAL(ftruncate64)(fd, n); }

/* No power cut comes: what a disk would do for milliseconds changes nothing that is looked at. */
int fsync(int fd)
{ return fd_fails(FSYNC, fd) ? -1 : fcntl(fd, F_GETFD) < 0 ? -1 : 0; }

int rename(const char *a, const char *b)
{ return path_fails(RENAME, AT_FDCWD, b) ? -1 : REAL(rename)(a, b); }

int renameat(int x, const char *a, int y, const char *b)
{ return path_fails(RENAME, y, b) ? -1 : REAL(renameat)(x, a, y, b); }

int renameat2(int x, const char *a, int y, const char *b, unsigned f)
{ return path_fails(RENAME, y, b) ? -1 : REAL(renameat2)(x, a, y, b, f); }

int link(const char *a, const char *b)
{ return path_fails(LINK, AT_FDCWD, b) ? -1 : REAL(link)(a, b); }

int linkat(int x, const char *a, int y, const char *b, int f)
{ return path_fails(LINK, y, b) ? -1 : REAL(linkat)(x, a, y, b, f); }

int mkdir(const char *a, mode_t m)
{ return path_fails(MKDIR, AT_FDCWD, a) ? -1 : REAL(mkdir)(a, m); }

int unlink(const char *a)
{ return path_fails(UNLINK, AT_FDCWD, a) ? -1 : REAL(unlink)(a); }

int unlinkat(int d, const char *a, int f)
{ return path_fails(UNLINK, d, a) ? -1 : REAL(unlinkat)(d, a, f); }

int rmdir(const char *a)
{ return path_fails(UNLINK, AT_FDCWD, a) ? -1 : REAL(rmdir)(a); }

static mode_t mode_of(int flags, va_list rest)
{ return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

static int opening_fails(int folder, const char *path, int flags)
{ return flags & (O_WRONLY | O_RDWR | O_CREAT) && path_fails(OPEN, folder, path); }

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return opening_fails(AT_FDCWD, path, flags) ? -1 : REAL(open64)(path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return opening_fails(folder, path, flags) ? -1 : REAL(openat64)(folder, path, flags, mode);
}
