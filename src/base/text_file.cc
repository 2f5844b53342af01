#include "octavo/text_file.h"

#include "base/file.h"

namespace octavo {

Status SaveText(const std::string& path, std::string_view text) { return WriteFile(path, text); }

}  // namespace octavo
