/* Everything that is compiled once per instruction set. */
#include "scan_vec.h"
#include "scan_math.h"
#include "scan_tile.h"
#include "scan_tile_backward.h"
#include "scan_tasks.h"
#include "ss2d_tasks.h"
