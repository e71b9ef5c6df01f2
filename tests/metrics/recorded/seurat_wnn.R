# Rscript seurat_wnn.R FOLDER K.NN KNN.RANGE L2.NORM
# Reads two embeddings, first.tsv and second.tsv, and writes what Seurat's FindMultiModalNeighbors makes of them.
suppressPackageStartupMessages(library(Seurat))
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[[1]]

embeddings <- lapply(c("first", "second"), function(name) {
  as.matrix(read.table(file.path(folder, paste0(name, ".tsv")), colClasses = "numeric"))
})
n_cells <- nrow(embeddings[[1]])
cells <- paste0("cell", seq_len(n_cells))
object <- CreateSeuratObject(matrix(1, 5, n_cells, dimnames = list(paste0("gene", 1:5), cells)))
for (m in 1:2) {
  key <- paste0("M", m, "_")
  dimnames(embeddings[[m]]) <- list(cells, paste0(key, seq_len(ncol(embeddings[[m]]))))
  object[[paste0("m", m)]] <- CreateDimReducObject(embeddings[[m]], key = key, assay = "RNA")
}
object <- FindMultiModalNeighbors(
  object,
  reduction.list = list("m1", "m2"),
  dims.list = lapply(embeddings, function(x) seq_len(ncol(x))),
  k.nn = as.integer(arguments[[2]]),
  knn.range = as.integer(arguments[[3]]),
  l2.norm = as.logical(arguments[[4]]),
  modality.weight.name = c("first", "second"),
  verbose = FALSE
)
save <- function(values, name) {
  values <- format(as.matrix(values), digits = 17, trim = TRUE)
  write.table(values, file.path(folder, paste0(name, ".tsv")), quote = FALSE, row.names = FALSE, col.names = FALSE)
}
found <- object[["weighted.nn"]]
save(object[["first"]], "weights")
save(Indices(found) - 1L, "indices")
save(Distances(found), "distances")
save(as.matrix(as(object[["wsnn"]], "dgCMatrix")), "similarity")
