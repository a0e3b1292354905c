/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the seam tells valgrind, which knows neither io_uring nor our stacks. Nothing, where its headers are not installed.
 */
#ifndef IZAR_IO_VALGRIND_H
#define IZAR_IO_VALGRIND_H

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif

#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_STACK_REGISTER(from, to) 0
#define VALGRIND_STACK_DEREGISTER(id) (void)(id)
#define VALGRIND_MAKE_MEM_DEFINED(at, size) (void)0
#endif

#endif
