#include "worker/schema_check/schema_check.h"

int main(int argc, char** argv) {
    return iw::worker::run_schema_check(argc, argv);
}
