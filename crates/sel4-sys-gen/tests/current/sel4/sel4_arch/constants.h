#pragma once
#define seL4_UserTop 0x00007fffffffffff
#define seL4_UserVSpaceTop (seL4_UserTop - 1)
#define seL4_PageBits 12
