use candle_core::{Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Drops units at random while training and scales up the rest, from a seed. (candle's own takes no seed on CPU.)
pub(super) struct Dropout {
    /// Of 65,536 units so many are dropped.
    dropped: u32,
    random: ChaCha8Rng,
}

impl Dropout {
    /// `None` where nothing would be dropped.
    pub(super) fn new(share: f64, random: ChaCha8Rng) -> Option<Self> {
        let dropped = (share * 65_536.0).round() as u32;
        (dropped > 0).then_some(Self { dropped: dropped.min(65_535), random })
    }

    pub(super) fn apply(&mut self, x: &Tensor) -> Result<Tensor> {
        let scale = 65_536.0 / (65_536 - self.dropped) as f32;
        let units = x.elem_count();
        let mut mask = Vec::with_capacity(units + 4);
        while mask.len() < units {
            // Four units from one draw: sixteen bits each are plenty for a share.
            let draw = self.random.next_u64();
            mask.extend((0..4).map(|part| {
                let unit = (draw >> (16 * part)) as u32 & 0xffff;
                if unit < self.dropped { 0.0 } else { scale }
            }));
        }
        mask.truncate(units);
        x * Tensor::from_vec(mask, x.shape(), x.device())?
    }
}
