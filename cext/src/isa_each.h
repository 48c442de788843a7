/* Loops that the instruction sets share are written once, as a macro of (isa, target), and compiled for each. */
#ifndef SANDTABLE_ISA_EACH_H
#define SANDTABLE_ISA_EACH_H

#include "common.h"

#if defined(__x86_64__)
#define TARGET_AVX512                                                                                                  \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2,popcnt,prefer-vector-width=512")))
#define FOR_EACH_ISA(define)                                                                                           \
  define(avx512, TARGET_AVX512) define(avx2, __attribute__((target("avx2,bmi,bmi2,popcnt")))) define(serial, )
#define ACTIVE_ISA(function)                                                                                           \
  (active_kernels() == &kernels_avx512 ? function##_avx512                                                             \
   : active_kernels() == &kernels_avx2 ? function##_avx2                                                               \
                                       : function##_serial)
#else
#define FOR_EACH_ISA(define) define(serial, )
#define ACTIVE_ISA(function) function##_serial
#endif

#endif
