// The CUDA device language on a CPU, in one include. See ../README.md.
#pragma once

#include "emulator/vectors.hpp"
#include "emulator/fibers.hpp"
#include "emulator/math.hpp"
#include "emulator/warp.hpp"
#include "emulator/float16.hpp"
#include "emulator/float8.hpp"
#include "emulator/atomics.hpp"
#include "emulator/wmma.hpp"
#include "emulator/launch.hpp"
#include "emulator/qualifiers.hpp"  // last: its words must not reach the headers above
