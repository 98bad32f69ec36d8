/* Stands between a process and the C library: counts the calls that change files below one folder, and ends, tears or
   fails the n-th of them, or keeps a log of all from which a power loss can be replayed. Loaded by LD_PRELOAD; told what
   to do through a shared file (see syscalls.py, which has the same structure). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, BEFORE, AFTER, TORN, FAIL, FAIL_ON };
enum { ALL, ONE };

struct state {
    int64_t at, error, mode, scope;
    _Atomic int64_t count;
    int64_t logged, log_size; /* bytes of the log used; 0: no log */
    _Atomic int64_t lock, leader; /* leader: the process group that called first, which started all others */
    char root[1024], last[256];
    char log[];
};

struct record { int64_t number, inode, offset, length, first, second; char call[16]; };

static struct state *shared;
static size_t root_length;

#define REAL(name) ({ static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name); real; })

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SYSCALLS_STATE");
    struct stat status;
    int descriptor = path ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0 || fstat(descriptor, &status)) return;
    void *found = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (found != MAP_FAILED) shared = found;
}

/* ------------------------------------------------------------------------------------------------------- whose call */

static int below(const char *path) {
    if (!shared || !shared->root[0]) return 0;
    root_length = strlen(shared->root);
    return !strncmp(path, shared->root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static const char *of_descriptor(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
    return path;
}

static const char *of_name(int folder, const char *name, char *path) {
    if (name[0] == '/') return strncpy(path, name, PATH_MAX - 1);
    if (folder == AT_FDCWD) { if (!getcwd(path, PATH_MAX)) path[0] = 0; } else of_descriptor(folder, path);
    size_t length = strlen(path);
    snprintf(path + length, PATH_MAX - length, "/%s", name);
    return path;
}

/* ------------------------------------------------------------------------------------------------------ what happens */

static void end(void) {
    if (shared->scope == ALL) kill(-(pid_t)shared->leader, SIGKILL);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Before the call: the number of this call; *fails is the error to give instead of calling. */
static int64_t enter(const char *call, const char *path, int takes_room, int *fails) {
    int64_t nobody = 0, number = ++shared->count;
    atomic_compare_exchange_strong(&shared->leader, &nobody, getpgrp());
    *fails = 0;
    for (int tries = 0; shared->log_size && __sync_lock_test_and_set((int64_t *)&shared->lock, 1) && tries < 100000; tries++)
        sched_yield(); /* whoever ended while holding it holds it no longer */
    if (shared->mode == COUNT) return number;
    if (number == shared->at) {
        snprintf(shared->last, sizeof shared->last, "%s %s", call, path + root_length);
        if (shared->mode == BEFORE) end();
        if (shared->mode == FAIL) *fails = shared->error;
    }
    if (shared->mode == FAIL_ON && number >= shared->at && (takes_room || shared->error != ENOSPC)) *fails = shared->error;
    return number;
}

static void leave(int64_t number, const char *call, const char *first, const char *second, int64_t inode, int64_t offset,
                  const void *data, int64_t length) {
    int kept = errno;
    if (shared->log_size) {
        struct record record = { number, inode, offset, length, strlen(first), strlen(second), "" };
        int64_t carried = data ? length : 0;
        char *to = shared->log + shared->logged;
        strncpy(record.call, call, sizeof record.call - 1);
        if (shared->logged + (int64_t)sizeof record + record.first + record.second + carried > shared->log_size) abort();
        memcpy(to, &record, sizeof record); to += sizeof record;
        memcpy(to, first, record.first); to += record.first;
        memcpy(to, second, record.second); to += record.second;
        if (data) memcpy(to, data, carried);
        shared->logged = to + carried - shared->log;
        __sync_lock_release((int64_t *)&shared->lock);
    }
    if (shared->mode == AFTER && number == shared->at) end();
    errno = kept;
}

static int refuse(int error) {
    if (shared->log_size) __sync_lock_release((int64_t *)&shared->lock);
    errno = error;
    return -1;
}

static int64_t inode_of(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) ? 0 : (int64_t)status.st_ino;
}

/* ----------------------------------------------------------------------------------------------------- calls on names */

static int opened(int folder, const char *name, int flags, mode_t mode) {
    int (*real)(int, const char *, int, ...) = REAL(openat);
    char path[PATH_MAX];
    int fails;
    if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE || !below(of_name(folder, name, path)))
        return real(folder, name, flags, mode);
    int64_t number = enter("open", path, 1, &fails);
    if (fails) return refuse(fails);
    int descriptor = real(folder, name, flags, mode);
    leave(number, descriptor < 0 ? "none" : "open", path, "", descriptor < 0 ? 0 : inode_of(descriptor), 0, NULL,
          flags & O_TRUNC ? 1 : 0);
    return descriptor;
}

#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); }
int open(const char *name, int flags, ...) { MODE(flags) return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE(flags) return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE(flags) return opened(folder, name, flags, mode); }
int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

#define ON_NAME(label, room, folder, name, call)                                                                       \
    char path[PATH_MAX]; int fails;                                                                                    \
    if (!below(of_name(folder, name, path))) return call;                                                              \
    int64_t number = enter(label, path, room, &fails);                                                                 \
    if (fails) return refuse(fails);                                                                                   \
    int result = call;                                                                                                 \
    leave(number, result ? "none" : label, path, "", 0, 0, NULL, 0);                                               \
    return result;

int mkdir(const char *name, mode_t mode) { ON_NAME("mkdir", 1, AT_FDCWD, name, REAL(mkdir)(name, mode)) }
int mkdirat(int folder, const char *name, mode_t mode) { ON_NAME("mkdir", 1, folder, name, REAL(mkdirat)(folder, name, mode)) }
int rmdir(const char *name) { ON_NAME("rmdir", 0, AT_FDCWD, name, REAL(rmdir)(name)) }
int unlink(const char *name) { ON_NAME("unlink", 0, AT_FDCWD, name, REAL(unlink)(name)) }
int unlinkat(int folder, const char *name, int flags) { ON_NAME(flags & AT_REMOVEDIR ? "rmdir" : "unlink", 0, folder, name, REAL(unlinkat)(folder, name, flags)) }
int chmod(const char *name, mode_t mode) { ON_NAME("chmod", 0, AT_FDCWD, name, REAL(chmod)(name, mode)) }
int fchmodat(int folder, const char *name, mode_t mode, int flags) { ON_NAME("chmod", 0, folder, name, REAL(fchmodat)(folder, name, mode, flags)) }
int truncate(const char *name, off_t length) { ON_NAME("truncate", 1, AT_FDCWD, name, REAL(truncate)(name, length)) }

#define ON_NAMES(label, room, folder, name, other, target, call)                                                       \
    char path[PATH_MAX], to[PATH_MAX]; int fails;                                                                      \
    of_name(folder, name, path);                                                                                       \
    if (!below(of_name(other, target, to)) && !below(path)) return call;                                               \
    int64_t number = enter(label, to, room, &fails);                                                                   \
    if (fails) return refuse(fails);                                                                                   \
    int result = call;                                                                                                 \
    leave(number, result ? "none" : label, path, to, 0, 0, NULL, 0);                                               \
    return result;

int rename(const char *name, const char *target) { ON_NAMES("rename", 1, AT_FDCWD, name, AT_FDCWD, target, REAL(rename)(name, target)) }
int renameat(int folder, const char *name, int other, const char *target) { ON_NAMES("rename", 1, folder, name, other, target, REAL(renameat)(folder, name, other, target)) }
int renameat2(int folder, const char *name, int other, const char *target, unsigned int flags) { ON_NAMES("rename", 1, folder, name, other, target, REAL(renameat2)(folder, name, other, target, flags)) }
int link(const char *name, const char *target) { ON_NAMES("link", 1, AT_FDCWD, name, AT_FDCWD, target, REAL(link)(name, target)) }
int linkat(int folder, const char *name, int other, const char *target, int flags) { ON_NAMES("link", 1, folder, name, other, target, REAL(linkat)(folder, name, other, target, flags)) }
int symlink(const char *name, const char *target) { ON_NAMES("symlink", 1, AT_FDCWD, name, AT_FDCWD, target, REAL(symlink)(name, target)) }

/* ----------------------------------------------------------------------------------------------- calls on descriptors */

#define ON_FILE(label, room, descriptor, failed, call, offset_of, data, carried, torn)                                 \
    char path[PATH_MAX]; int fails;                                                                                    \
    if (!shared || !below(of_descriptor(descriptor, path))) return call;                                               \
    int64_t number = enter(label, path, room, &fails);                                                                 \
    if (fails) return refuse(fails);                                                                                   \
    if (shared->mode == TORN && number == shared->at) { torn; end(); }                                                 \
    __typeof__(call) result = call;                                                                                    \
    if (shared->log_size || shared->mode == AFTER)                                                                     \
        leave(number, failed ? "none" : label, path, "", inode_of(descriptor), offset_of, failed ? NULL : (data), carried); \
    return result;

#define HERE (lseek(descriptor, 0, SEEK_CUR) - result)

ssize_t write(int descriptor, const void *data, size_t length) {
    ON_FILE("write", 1, descriptor, result < 0, REAL(write)(descriptor, data, length), HERE, data, result,
            (void)!REAL(write)(descriptor, data, length / 2))
}
static ssize_t written(int descriptor, const void *data, size_t length, off_t offset) {
    ON_FILE("write", 1, descriptor, result < 0, REAL(pwrite)(descriptor, data, length, offset), offset, data, result,
            (void)!REAL(pwrite)(descriptor, data, length / 2, offset))
}
ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) { return written(descriptor, data, length, offset); }
ssize_t pwrite64(int descriptor, const void *data, size_t length, off_t offset) { return written(descriptor, data, length, offset); }

/* Gathered writes are made one by one: what a reader may see is the same. */
static ssize_t gathered(int descriptor, const struct iovec *parts, int count, off_t offset) {
    ssize_t total = 0;
    for (int index = 0; index < count; index++) {
        ssize_t result = offset < 0 ? write(descriptor, parts[index].iov_base, parts[index].iov_len)
                                    : written(descriptor, parts[index].iov_base, parts[index].iov_len, offset + total);
        if (result < 0) return total ? total : -1;
        total += result;
        if ((size_t)result < parts[index].iov_len) break;
    }
    return total;
}
static int ours(int descriptor) { char path[PATH_MAX]; return shared && below(of_descriptor(descriptor, path)); }
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    return ours(descriptor) ? gathered(descriptor, parts, count, -1) : REAL(writev)(descriptor, parts, count);
}
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return ours(descriptor) ? gathered(descriptor, parts, count, offset) : REAL(pwritev)(descriptor, parts, count, offset);
}
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return ours(descriptor) ? gathered(descriptor, parts, count, offset) : REAL(pwritev64)(descriptor, parts, count, offset);
}

/* Copies within the kernel: refused, as some file systems do; the caller then reads and writes. */
ssize_t sendfile(int to, int from, off_t *offset, size_t length) {
    if (ours(to)) { errno = EINVAL; return -1; }
    return REAL(sendfile)(to, from, offset, length);
}
ssize_t sendfile64(int to, int from, off_t *offset, size_t length) {
    if (ours(to)) { errno = EINVAL; return -1; }
    return REAL(sendfile64)(to, from, offset, length);
}
ssize_t copy_file_range(int from, off_t *in, int to, off_t *out, size_t length, unsigned int flags) {
    if (ours(to)) { errno = EXDEV; return -1; }
    return REAL(copy_file_range)(from, in, to, out, length, flags);
}

int fsync(int descriptor) { ON_FILE("fsync", 0, descriptor, result, REAL(fsync)(descriptor), 0, NULL, 0, (void)0) }
int fdatasync(int descriptor) { ON_FILE("fsync", 0, descriptor, result, REAL(fdatasync)(descriptor), 0, NULL, 0, (void)0) }
int fchmod(int descriptor, mode_t mode) { ON_FILE("chmod", 0, descriptor, result, REAL(fchmod)(descriptor, mode), 0, NULL, 0, (void)0) }
int ftruncate(int descriptor, off_t length) { ON_FILE("ftruncate", 1, descriptor, result, REAL(ftruncate)(descriptor, length), length, NULL, 0, (void)0) }
int ftruncate64(int descriptor, off_t length) { ON_FILE("ftruncate", 1, descriptor, result, REAL(ftruncate64)(descriptor, length), length, NULL, 0, (void)0) }
int fallocate(int descriptor, int mode, off_t offset, off_t length) { ON_FILE("fallocate", 1, descriptor, result, REAL(fallocate)(descriptor, mode, offset, length), offset + length, NULL, 0, (void)0) }
int fallocate64(int descriptor, int mode, off_t offset, off_t length) { ON_FILE("fallocate", 1, descriptor, result, REAL(fallocate64)(descriptor, mode, offset, length), offset + length, NULL, 0, (void)0) }
/* posix_fallocate returns its error instead of setting errno. */
static int room_made(int descriptor, off_t offset, off_t length, int (*real)(int, off_t, off_t)) {
    char path[PATH_MAX];
    int fails;
    if (!shared || !below(of_descriptor(descriptor, path))) return real(descriptor, offset, length);
    int64_t number = enter("fallocate", path, 1, &fails);
    if (fails) { refuse(fails); return fails; }
    int result = real(descriptor, offset, length);
    leave(number, result ? "none" : "fallocate", path, "", inode_of(descriptor), offset + length, NULL, 0);
    return result;
}
int posix_fallocate(int descriptor, off_t offset, off_t length) { return room_made(descriptor, offset, length, REAL(posix_fallocate)); }
int posix_fallocate64(int descriptor, off_t offset, off_t length) { return room_made(descriptor, offset, length, REAL(posix_fallocate64)); }
