#include "tools/troupe/commands.hpp"

int main(int argc, char** argv) {
  return troupe::tools::command_main(argc, argv);
}
