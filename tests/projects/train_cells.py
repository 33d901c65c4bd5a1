"""How the project trains without us: python train_cells.py"""

import lightning as L
from cells.data import CellsData
from cells.lit import LitCells

if __name__ == "__main__":
    L.seed_everything(0)
    trainer = L.Trainer(max_epochs=10)
    trainer.fit(LitCells(), CellsData())
    trainer.test(datamodule=CellsData(), ckpt_path="last")
