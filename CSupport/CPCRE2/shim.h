// SPDX-License-Identifier: Apache-2.0
//
// PCRE2 names its functions after the width of its code units.

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
